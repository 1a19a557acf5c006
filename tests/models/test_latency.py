"""Clocks, held to calls of a known length and to networks of a known order."""

import shlex
import shutil
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from clocks import THOUSANDS, weighing
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.latency import (
    Clock,
    CommandLatency,
    Timed,
    latency_ms,
    time_files,
    times_of,
)
from regrow.models.onnx.command_clock import ClockFailed
from regrow.models.onnx.graph import export_graph


def test_a_call_is_timed_by_its_clock() -> None:
    ticks = iter([1.0, 1.25])
    assert Timed(lambda: None, lambda: next(ticks)).milliseconds() == 250


def test_two_calls_take_turns_and_the_median_of_each_counts() -> None:
    log: list[str] = []
    now = 0.0

    def call(name: str, lengths: list[float]) -> Timed:
        def run() -> None:
            nonlocal now
            log.append(name)
            now += lengths.pop(0)

        return Timed(run, lambda: now)

    one = call("a", [9, 9, 9, 0.001, 0.005, 0.002])
    other = call("b", [9, 9, 9, 0.004, 0.03, 0.004])
    assert times_of(one, other, rounds=3) == pytest.approx((2, 4))
    assert "".join(log) == "abbaabbaabba"


def make(net: str = "small", **options: object) -> Classification:
    torch.manual_seed(0)
    return Classification(["a", "b"], (32, 32), net=net, **options)  # type: ignore[arg-type]


class Wide(nn.Module):
    """Sixteen times the work of itself at a quarter of the width."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, width, 1), nn.Conv2d(width, width, 3)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(self.stem(x)).mean((2, 3)))


class Unexportable(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        # A length that data decides.
        chosen = x.mean((2, 3))[x.mean((1, 2, 3)) > -9]
        return self.fc(chosen) if float(chosen.sum()) < 1e9 else self.fc(chosen) + 1


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_network_of_a_sixteenth_of_the_work_takes_less_time(runtime: str) -> None:
    large, small = (make(f"{__name__}.Wide", net_args={"width": width}) for width in (128, 32))
    large.train()
    latency = Clock(runtime=runtime, rounds=5).beside(large)  # type: ignore[arg-type]
    assert latency.share(small) < 0.5
    assert latency(large)[0] > 0
    assert large.training


def test_a_network_is_timed_as_it_was_at_the_start() -> None:
    task = make(f"{__name__}.Wide", net_args={"width": 128})
    latency = Clock(runtime="torch", rounds=5).beside(task)
    task.net = Wide(2, 8)
    assert latency.share(task) < 0.5


def test_what_cannot_be_exported_is_timed_in_torch_unless_asked_otherwise() -> None:
    task = make(f"{__name__}.Unexportable")
    assert Clock().beside(task).runtime == "PyTorch"
    with pytest.raises(BadInput, match="cannot be exported"):
        Clock(runtime="onnxruntime").beside(task)
    assert Clock().beside(make()).runtime == "ONNX Runtime"


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        Clock(runtime="torch", rounds=1).beside(make())(make())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_values_out_of_range_are_bad_input() -> None:
    with pytest.raises(BadInput, match=r"clock\.batch is 0 and clock\.rounds 15"):
        Clock(batch=0)
    with pytest.raises(BadInput, match=r"clock\.rounds 0"):
        Clock(rounds=0)


@pytest.mark.gpu
def test_a_network_on_cuda_is_timed_there() -> None:
    task = make(f"{__name__}.Wide", net_args={"width": 512}).cuda()
    small = make(f"{__name__}.Wide", net_args={"width": 32}).cuda()
    latency = Clock(batch=64).beside(task)
    assert latency.runtime == "PyTorch"
    assert latency.share(small) < 1


def test_time_counts_this_thread_alone() -> None:
    """What waits takes no time; the clocks of the CPU must not count other programs."""
    timed = Timed(lambda: time.sleep(0.05), time.thread_time)
    assert timed.milliseconds() < 40


def test_latency_times_calls_side_by_side_with_the_threads_asked_for() -> None:
    before = torch.get_num_threads()
    seen: list[tuple[str, int]] = []

    def call(name: str) -> Any:
        return lambda: seen.append((name, torch.get_num_threads()))

    times = latency_ms(call("a"), call("b"), repeats=3, warm_up=2, threads=1)
    assert len(times) == 2
    assert all(time > 0 for time in times)
    rounds = [seen[start : start + 2] for start in range(0, 10, 2)]
    assert all(sorted(round_) == [("a", 1), ("b", 1)] for round_ in rounds)
    assert len({tuple(round_) for round_ in rounds}) == 2, "either goes first at times"
    assert torch.get_num_threads() == before


def test_latency_puts_the_threads_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        latency_ms(lambda: 1 // 0, threads=1)
    assert torch.get_num_threads() == before


def test_latency_is_the_median_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first call takes 50 s, the next ones 1, 9 and 2 s.
    now, spent = [0.0], iter([50.0, 1, 9, 2])
    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr("regrow.models.latency.time", clock)

    def call() -> None:
        now[0] += next(spent)

    assert latency_ms(call, repeats=3, warm_up=1) == [2000]


def test_events_of_the_device_are_the_clock_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            said.append("record")

        def synchronize(self) -> None:
            said.append("wait")

        def elapsed_time(self, end: "Event") -> float:
            return 7.0 if self is not end else 0.0

    monkeypatch.setattr("torch.cuda.Event", Event)
    device = torch.device("cuda")
    assert latency_ms(lambda: said.append("call"), repeats=2, warm_up=0, device=device) == [7.0]
    assert said == ["record", "call", "record", "wait"] * 2


def test_a_command_times_networks_in_turns_with_the_reference(tmp_path: Path) -> None:
    log = tmp_path / "log"
    large, small = (make(f"{__name__}.Wide", net_args={"width": width}) for width in (128, 32))
    latency = Clock(command=weighing(log), runs=3).beside(large)
    assert log.read_text().split() == ["reference.onnx"], "tried once, before any work"
    before, after = latency(small)
    # The weights alone are 592 and 37 thousand bytes.
    assert 592 < before < 640
    assert 37 < after < 85
    assert log.read_text().split()[1:] == [
        "reference.onnx", "network.onnx", "network.onnx", "reference.onnx", "reference.onnx",
        "network.onnx",
    ]  # fmt: skip
    assert latency.share(small) == after / before
    assert isinstance(latency, CommandLatency)
    assert latency.times == [[before] * 3, [after] * 3]
    assert latency.runtime.startswith("python")


def test_the_median_of_the_runs_of_a_command_counts(tmp_path: Path) -> None:
    log, task = tmp_path / "log", make()
    # The first run is a try; then 2 to 7, of which the reference has 2, 5, 6.
    count = f"print(len(open({str(log)!r}).read().split()))"
    latency = Clock(command=weighing(log, count), runs=3).beside(task)
    assert latency(task) == (5, 4)
    assert isinstance(latency, CommandLatency)
    assert latency.times == [[2, 5, 6], [3, 4, 7]]


def test_a_command_has_a_file_of_one_batch_size_that_runs(tmp_path: Path) -> None:
    kept = tmp_path / "kept.onnx"
    copy = f"import shutil; shutil.copy(sys.argv[1], {str(kept)!r}); print(1)"
    options = {"command": weighing(tmp_path / "log", copy), "batch": 3, "input_type": "float32"}
    task = make()
    Clock(**options, opset=19).beside(task)  # type: ignore[arg-type]
    session = onnxruntime.InferenceSession(kept)
    (images,) = session.get_inputs()
    assert (images.shape, images.type) == ([3, 3, 32, 32], "tensor(float)")
    assert all(output.shape[0] == 3 for output in session.get_outputs())
    assert onnx.load(kept).opset_import[0].version == 19
    given = torch.rand(3, 3, 32, 32)
    (found,) = session.run(None, {"images": given.numpy()})
    expected = task.eval().decode(task((given * 255).round().to(torch.uint8)))["probabilities"]
    assert torch.allclose(torch.from_numpy(found), expected, atol=0.02)


def test_files_are_timed_in_turns_by_the_same_command(tmp_path: Path) -> None:
    log, sizes = tmp_path / "log", {"wide": 128, "narrow": 32}
    files = {
        name: export_graph(make(f"{__name__}.Wide", net_args={"width": width}), tmp_path / name)
        for name, width in sizes.items()
    }
    kept = tmp_path / "kept.onnx"
    copy = f"import shutil; shutil.copy(sys.argv[1], {str(kept)!r}); {THOUSANDS}"
    clock = Clock(command=weighing(log, copy), runs=2, batch=3)
    times = time_files(files, np.zeros(()), clock)
    assert log.read_text().split() == ["wide.onnx", "narrow.onnx", "narrow.onnx", "wide.onnx"]
    for name, own in times.items():
        assert own[0] == own[1] == pytest.approx(files[name].stat().st_size / 1000, abs=0.2)
    (images,) = onnxruntime.InferenceSession(kept).get_inputs()
    assert images.shape == [3, 3, 32, 32]


def test_files_are_timed_in_onnxruntime_without_a_command(tmp_path: Path) -> None:
    files = {
        name: export_graph(make(f"{__name__}.Wide", net_args={"width": width}), tmp_path / name)
        for name, width in {"wide": 256, "narrow": 16}.items()
    }
    times = time_files(files, np.zeros((2, 3, 32, 32), np.uint8), Clock(rounds=4))
    assert {name: len(own) for name, own in times.items()} == {"wide": 4, "narrow": 4}
    assert statistics.median(times["narrow"]) < statistics.median(times["wide"])


def test_a_command_that_fails_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ClockFailed, match="ended with exit code 1; its last line was 'no device'"):
        Clock(command=weighing(tmp_path / "log", "sys.exit('no device')")).beside(make())
    with pytest.raises(BadInput, match="cannot be exported"):
        Clock(command=weighing(tmp_path / "log")).beside(make(f"{__name__}.Unexportable"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"command": "a {onnx}", "runs": 0}, r"clock\.runs is 0, it must be at least 1"),
        ({"command": "a {onnx}", "runtime": "torch"}, r"clock\.runtime torch has no say beside"),
        ({"pattern": "x"}, r"clock\.pattern has no say without clock\.command"),
        ({"command": "a"}, "must name a program, and after it the file"),
    ],
)
def test_options_of_a_command_that_cannot_be_are_refused(options: dict, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Clock(**options)


@pytest.mark.slow
def test_openvino_times_what_is_smaller_as_faster() -> None:
    pytest.importorskip("openvino")
    app = shutil.which("benchmark_app")
    assert app is not None, "openvino installs it"
    large, small = (make(f"{__name__}.Wide", net_args={"width": width}) for width in (256, 32))
    line = "-m {onnx} -d CPU -hint none -nstreams 1 -nthreads 1 -niter 50"
    latency = Clock(command=f"{shlex.quote(app)} {line}").beside(large)
    assert latency.runtime == "benchmark_app"
    assert latency.share(small) < 0.7
