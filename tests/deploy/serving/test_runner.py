"""One thread runs a model on what waits, together where that is allowed."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

from regrow.deploy.serving.metrics import Metrics
from regrow.deploy.serving.runner import Runner, part
from regrow.deploy.session import Outputs


class Sums:
    """A model that sums each image, and waits until it may go on."""

    def __init__(self) -> None:
        self.may_run, self.begun = threading.Event(), threading.Event()
        self.may_run.set()
        self.batches: list[int] = []

    def run(self, images: np.ndarray, names: Sequence[str] | None = None) -> Outputs:
        self.begun.set()
        assert self.may_run.wait(20)
        self.batches.append(len(images))
        if images.max() == 255:
            raise ValueError("a picture of white")
        return {name: images.sum((1, 2, 3), dtype=int) for name in names or ()}


@pytest.fixture
def made() -> Iterator[Callable[..., tuple[Sums, Runner, Metrics]]]:
    runners: list[Runner] = []

    def make(**options: Any) -> tuple[Sums, Runner, Metrics]:
        model, metrics = Sums(), Metrics()
        runners.append(Runner(model, "m", metrics, **options))
        return model, runners[-1], metrics

    yield make
    for runner in runners:
        runner.close()


def images(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)[:, None, None, None]


Made = Callable[..., tuple[Sums, Runner, Metrics]]


def held(model: Sums, runner: Runner) -> Any:
    """Let the network be busy with one image."""
    model.begun.clear()
    model.may_run.clear()
    first = runner.submit(images(9), ["sum"])
    assert model.begun.wait(20)
    return first


def test_what_waits_is_run_together_and_each_gets_its_own(made: Made) -> None:
    model, runner, metrics = made(max_batch=4)
    first = held(model, runner)
    jobs = [runner.submit(images(*own), ["sum"]) for own in ((1,), (2, 3), (4,), (5,))]
    model.may_run.set()
    assert first.result(20)["sum"].tolist() == [9]
    assert [job.result(20)["sum"].tolist() for job in jobs] == [[1], [2, 3], [4], [5]]
    assert model.batches == [1, 4, 1]
    assert b'regrow_inference_count_total{model="m"} 6.0' in metrics.text()
    assert b'regrow_inference_exec_total{model="m"} 3.0' in metrics.text()


def test_a_larger_batch_of_a_client_is_run_in_parts(made: Made) -> None:
    model, runner, _ = made(max_batch=3)
    found = runner.submit(images(*range(8)), ["sum"]).result(20)
    assert found["sum"].tolist() == list(range(8))
    assert model.batches == [3, 3, 2]


def test_without_batching_each_image_is_run_alone(made: Made) -> None:
    model, runner, _ = made()
    first = held(model, runner)
    jobs = [runner.submit(images(n), ["sum"]) for n in range(3)]
    model.may_run.set()
    for job in [first, *jobs]:
        job.result(20)
    assert model.batches == [1] * 4


def test_a_job_waits_for_others_only_until_the_batch_is_full(made: Made) -> None:
    model, runner, _ = made(max_batch=2, max_delay=10)
    jobs = [runner.submit(images(n), ["sum"]) for n in range(2)]
    assert [job.result(5)["sum"].tolist() for job in jobs] == [[0], [1]]
    assert model.batches == [2]


def test_a_delay_ends_though_nobody_comes(made: Made) -> None:
    _, runner, _ = made(max_batch=2, max_delay=0.05)
    assert runner.submit(images(1), ["sum"]).result(20)["sum"].tolist() == [1]


def test_a_cancelled_job_leaves_the_queue_and_is_never_run(made: Made) -> None:
    model, runner, metrics = made(max_batch=4)
    first = held(model, runner)
    jobs = [runner.submit(images(n), ["sum"]) for n in range(3)]
    assert runner.num_waiting == 3
    assert jobs[0].cancel()
    assert jobs[2].cancel()
    assert runner.num_waiting == 1
    assert b'regrow_queue_depth{model="m"} 1.0' in metrics.text()
    assert not first.cancel()  # it is run already
    model.may_run.set()
    assert jobs[1].result(20)["sum"].tolist() == [1]
    assert model.batches == [1, 1]


def test_a_large_job_that_is_given_up_is_not_run_to_its_end(made: Made) -> None:
    model, runner, _ = made(max_batch=2)
    model.may_run.clear()
    job = runner.submit(images(*range(8)), ["sum"])
    assert model.begun.wait(20)
    assert not job.cancel()
    model.may_run.set()
    with pytest.raises(CancelledError):
        job.result(20)
    assert runner.submit(images(1), ["sum"]).result(20)["sum"].tolist() == [1]
    assert model.batches == [2, 1]


def test_an_error_is_that_of_its_batch_alone(made: Made) -> None:
    _, runner, _ = made()
    with pytest.raises(ValueError, match="a picture of white"):
        runner.submit(images(255), ["sum"]).result(20)
    assert runner.submit(images(1), ["sum"]).result(20)["sum"].tolist() == [1]


def test_a_closed_runner_has_run_what_waited(made: Made) -> None:
    model, runner, _ = made()
    held(model, runner)
    last = runner.submit(images(3), ["sum"])
    model.may_run.set()
    runner.close()
    assert last.result(0)["sum"].tolist() == [3]
    with pytest.raises(RuntimeError, match="the runner is closed"):
        runner.submit(images(1), ["sum"])


def test_detections_of_a_part_are_counted_from_its_first_image() -> None:
    outputs = {
        "boxes": np.arange(4),
        "selected": np.array([[0, 0, 5], [1, 2, 6], [2, 0, 7], [1, 0, 8], [3, 1, 9]]),
    }
    found = part(outputs, 1, 3)
    assert found["boxes"].tolist() == [1, 2]
    assert found["selected"].tolist() == [[0, 2, 6], [1, 0, 7], [0, 0, 8]]
