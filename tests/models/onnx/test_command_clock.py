"""A user's program as a clock: what it prints is read, and what goes wrong is one line."""

import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest

from regrow.errors import BadInput
from regrow.models.onnx.command_clock import ClockFailed, Program

TRTEXEC = """\
[11/30/2026-10:00:00] [I] === Performance summary ===
[11/30/2026-10:00:00] [I] Throughput: 1602.3 qps
[11/30/2026-10:00:00] [I] Latency: min = 0.61 ms, max = 1.2 ms, mean = 0.65 ms, median = 0.642 ms, p
[11/30/2026-10:00:00] [I] Enqueue Time: min = 0.2 ms, max = 0.4 ms, mean = 0.2 ms, median = 0.21 ms
[11/30/2026-10:00:00] [I] H2D Latency: min = 0.01 ms, max = 0.02 ms, mean = 0.01, median = 0.011 ms
[11/30/2026-10:00:00] [I] GPU Compute Time: min = 0.6 ms, max = 1.1 ms, mean = 0.6, median = 0.62 ms
[11/30/2026-10:00:00] [I] D2H Latency: min = 0.01 ms, max = 0.02 ms, mean = 0.01, median = 0.012 ms
[11/30/2026-10:00:00] [I] Total Host Walltime: 3.00142 s
"""
OPENVINO = """\
[ INFO ] Compile model took 240.12 ms
[ INFO ] First inference took 4.00 ms
[ INFO ] Latency:
[ INFO ]    Median:        {median}
[ INFO ]    Average:       9.29 ms
[ INFO ]    Max:           99.31 ms
[ INFO ] Throughput:   743.47 FPS
"""
ANY = r"is_(\w+)"


def program(code: str, **options: object) -> Program:
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {{onnx}}"
    return Program(command, **options)  # type: ignore[arg-type]


def printing(text: str, **options: object) -> Program:
    return program(f"print({text!r})", **options)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("3.25", 3.25),
        ("warming up\n 12 ms \n", 12),
        ("1\n2\n1.5e-1ms\n7 images", 0.15),
        ("2.5 us", 0.0025),
        ("2 s", 2000),
        (TRTEXEC, 0.642),
        (OPENVINO.format(median="0.32 ms"), 0.32),
        (OPENVINO.format(median="238.29 us"), 0.23829),
        ("10 %\r20 %\r0.5 ms", 0.5),
    ],
)
def test_by_default_the_last_line_that_is_a_number_or_a_median_counts(
    printed: str, expected: float
) -> None:
    assert printing(printed).milliseconds(Path("x")) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"GPU Compute Time: .*median = ([\d.]+)", 0.62),
        (r"mean = ([\d.]+)|never (x)", 0.01),
        (r"(?:D2H Latency: min = )([\d.]+) (?P<unit>ms)", 0.01),
        (r"(?P<unit>never)?Walltime: ([\d.]+)", 3.00142),
        (r"(?<=Throughput: )[\d.]+", 1602.3),
        (r"^\[.*\] Total Host Walltime: (?P<time>\S+) (?P<unit>s)$", 3001.42),
    ],
)
def test_a_pattern_names_the_number(pattern: str, expected: float) -> None:
    clock = printing(TRTEXEC, pattern=pattern)
    assert clock.milliseconds(Path("x")) == pytest.approx(expected)


def test_both_streams_are_read() -> None:
    assert program("import sys; print('8.5 ms', file=sys.stderr)").milliseconds(Path("x")) == 8.5


def test_the_file_is_one_argument_and_no_shell_reads_the_command(tmp_path: Path) -> None:
    told = tmp_path / "told"
    code = f"import sys; open({str(told)!r}, 'w').write(repr(sys.argv[1:])); print(1)"
    words = [shlex.quote(sys.executable), "-c", shlex.quote(code), "--onnx={onnx}", "$HOME", ";ls"]
    file = tmp_path / "a b; $(touch evil) 'c'.onnx"
    Program(" ".join(words)).milliseconds(file)
    assert told.read_text() == repr([f"--onnx={file}", "$HOME", ";ls"])


@pytest.mark.parametrize(
    ("clock", "said"),
    [
        (Program("no-such-clock {onnx}"), r"'no-such-clock' cannot be run \(No such file"),
        (Program("/dev {onnx}"), r"cannot be run \(Permission denied\)"),
        (
            program("import sys; print('no GPU\\n'); sys.exit(3)"),
            r"ended with exit code 3; its last line was 'no GPU'",
        ),
        (program("import os; os.kill(os.getpid(), 11)"), "was ended by signal 11; it printed noth"),
        (program("pass"), "matches clock.pattern, which by default is a line with .*; it printed"),
        (printing("took 3 ms"), r"nothing that python\S* printed matches .* was 'took 3 ms'"),
        (printing("3 ms", pattern="x"), r"printed matches clock\.pattern, 'x'; its last line"),
        (printing("0.0"), r"printed '0\.0' where clock\.pattern finds its milliseconds"),
        (printing("1e999"), "printed '1e999' where"),
        (printing("is_quick", pattern=ANY), "printed 'is_quick' where .* must be a number > 0"),
        (printing("1 h", pattern="([0-9]) (?P<unit>h)"), "printed '1 h' where"),
    ],
)
def test_a_clock_that_gives_no_time_fails_in_one_line(clock: Program, said: str) -> None:
    with pytest.raises(ClockFailed, match=said) as caught:
        clock.milliseconds(Path("x"))
    assert str(caught.value).startswith("clock.command: ")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, BadInput)


def test_a_clock_that_hangs_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = (
        "import subprocess, sys, time\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(told)!r}, 'w').write(str(inner.pid))\n"
        "print('1 ms', flush=True); time.sleep(600)"
    )
    with pytest.raises(ClockFailed, match=r"was stopped after 3 s, the limit of clock\.seconds"):
        program(code, seconds=3).milliseconds(Path("x"))
    pid = int(told.read_text())
    deadline = time.monotonic() + 20
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(pid)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_clock_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    """As adb's server, which keeps the streams that it was given."""
    told = tmp_path / "pid"
    code = (
        "import subprocess, sys\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(told)!r}, 'w').write(str(inner.pid)); print(4)"
    )
    assert program(code, seconds=60).milliseconds(Path("x")) == 4
    os.kill(int(told.read_text()), signal.SIGKILL)


def test_only_the_end_of_much_output_is_searched() -> None:
    clock = program("print('9 ms'); print('x' * 3_000_000); print('2 ms')")
    assert clock.milliseconds(Path("x")) == 2
    with pytest.raises(ClockFailed, match="its last line was 'x{200}'$"):
        program("print('9 ms'); print('x' * 3_000_000)").milliseconds(Path("x"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"command": ""}, "must name a program, and after it the file by {onnx}"),
        ({"command": "{onnx}"}, "must name a program"),
        ({"command": "time model"}, "clock.command 'time model' must name"),
        ({"command": "a 'b {onnx}"}, "No closing quotation; quote as in a shell"),
        ({"command": "a {onnx}", "pattern": "("}, r"clock\.pattern '\(' is no regular expression"),
        ({"command": "a {onnx}", "seconds": 0.0}, r"clock\.seconds is 0, it must be > 0"),
    ],
)
def test_what_cannot_be_run_is_refused(options: dict, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Program(**options)
