"""A server in a process of its own: ready when the block begins, gone when it is left."""

import os
from pathlib import Path

import pytest

from regrow.errors import CheckFailed
from regrow.pipelines.demonstration import server
from regrow.pipelines.demonstration.server import served

READY = "print('serving regrow at http://127.0.0.1:1234', flush=True);"
WAIT = "import time; time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "serve.log"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """Return a function that sets what the child runs; it prints its process id first."""

    def put(text: str) -> None:
        begun = f"import os; print(os.getpid(), flush=True); {text}"
        monkeypatch.setattr(server, "SERVE", ("-c", begun))

    return put


def is_gone(log_file: Path) -> bool:
    pid = int(log_file.read_text().split()[0])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit])
def test_the_child_ends_with_the_block(
    script, log_file: Path, error: type[BaseException] | None
) -> None:
    script(READY + WAIT)

    def enter() -> None:
        with served([], log_file) as address:
            assert address == "http://127.0.0.1:1234"
            assert not is_gone(log_file)
            if error is not None:
                raise error

    if error is None:
        enter()
    else:
        with pytest.raises(error):
            enter()
    assert is_gone(log_file)


def test_a_child_that_takes_no_signal_is_killed(
    script, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "END_SECONDS", 0.1)
    script(DEAF + READY + WAIT)
    with served([], log_file):
        pass
    assert is_gone(log_file)


def test_ctrl_c_while_it_ends_kills_it(
    script, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(DEAF + READY + WAIT)
    real, calls = server.subprocess.Popen.wait, []

    def wait(process, timeout=None):
        calls.append(timeout)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(process, timeout)

    monkeypatch.setattr(server.subprocess.Popen, "wait", wait)
    with pytest.raises(KeyboardInterrupt), served([], log_file):
        pass
    assert is_gone(log_file)


def test_a_server_that_does_not_start_is_one_line(
    script, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script("import sys; print('error: no such model', file=sys.stderr); sys.exit(2)")
    with (
        pytest.raises(CheckFailed, match=r"^the server ended with 2 \(error: no such model\)"),
        served([], log_file),
    ):
        raise AssertionError("it is not ready")
    monkeypatch.setattr(server, "START_SECONDS", 0.3)
    script(WAIT)
    with (
        pytest.raises(CheckFailed, match=r"^the server is not up in 0.3 s .*serve\.log$"),
        served([], log_file),
    ):
        raise AssertionError("it is not ready")
    assert is_gone(log_file)


def test_it_is_the_script_that_serves(log_file: Path) -> None:
    """Its help needs no import of a library, so that it is there at once."""
    with pytest.raises(CheckFailed, match="the server ended with 0"), served(["--help"], log_file):
        raise AssertionError("help serves nothing")
    assert log_file.read_text().startswith("Serve a model over HTTP")
