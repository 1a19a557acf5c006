"""Run folders: opened, moved aside, and told about when a signal ends the command."""

import hashlib
from pathlib import Path

import pytest
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from regrow.errors import BadInput
from regrow.guard import guard
from regrow.reporting.lock import release
from regrow.reporting.run_folder import MARK, advised, open_run, refuse_run


def _tree(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _earlier_run(folder: Path, text: str) -> dict[str, str]:
    (folder / "tensorboard").mkdir(parents=True, exist_ok=True)
    (folder / "regrow.txt").write_text(f"python scripts/train.py --seed {text}")
    (folder / "best.ckpt").write_bytes(text.encode() * 100)
    (folder / "tensorboard" / "events").write_text(text)
    return _tree(folder)


def test_open_run_makes_a_folder(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)  # empty: nothing to move
    run = open_run(tmp_path / "runs" / "a", "python scripts/train.py --seed 1")
    assert (run / "regrow.txt").read_text() == "python scripts/train.py --seed 1\n"
    assert [p.name for p in run.parent.iterdir()] == ["a"]


def test_open_run_moves_earlier_runs_aside_with_every_byte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "a"
    first = _earlier_run(run, "first")
    assert open_run(run) == run
    release(run)
    assert [p.name for p in run.iterdir()] == ["regrow.txt"]
    assert "a-1" in capsys.readouterr().err
    second = _earlier_run(run, "second")
    open_run(run)
    release(run)
    assert _tree(tmp_path / "a-1") == first
    assert _tree(tmp_path / "a-2") == second
    assert [p.name for p in run.iterdir()] == ["regrow.txt"]


def test_open_run_never_takes_a_name_in_use(tmp_path: Path) -> None:
    run = tmp_path / "a"
    first = _earlier_run(run, "first")
    (tmp_path / "a-1").mkdir()  # empty, but someone's
    (tmp_path / "a-2").write_text("a file")
    (tmp_path / "a-3").symlink_to(tmp_path / "nowhere")
    open_run(run)
    assert list((tmp_path / "a-1").iterdir()) == []
    assert (tmp_path / "a-2").read_text() == "a file"
    assert _tree(tmp_path / "a-4") == first


def test_open_run_moves_a_folder_given_with_a_trailing_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _earlier_run(tmp_path / "a", "first")
    monkeypatch.chdir(tmp_path)
    open_run(Path("a/../a/."))
    assert (tmp_path / "a-1" / "best.ckpt").is_file()


def test_open_run_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(BadInput, match="a is a file; give another run folder"):
        open_run(tmp_path / "a")
    with pytest.raises(BadInput, match="cannot be made"):
        open_run(tmp_path / "a" / "b")
    assert (tmp_path / "a").read_text() == "mine"


def test_open_run_leaves_what_is_no_run(tmp_path: Path) -> None:
    _earlier_run(tmp_path / "runs" / "a", "first")
    before = _tree(tmp_path)
    with pytest.raises(BadInput, match="runs holds files that are no run of regrow's"):
        open_run(tmp_path / "runs")
    assert _tree(tmp_path) == before


def test_a_run_may_not_move_aside_what_it_needs(tmp_path: Path) -> None:
    _earlier_run(tmp_path / "a", "first")
    with pytest.raises(BadInput, match=r"a/best.ckpt is part of the run in .*a folder of its own$"):
        refuse_run(tmp_path / "a", tmp_path / "b" / ".." / "a" / "best.ckpt")
    refuse_run(tmp_path / "b", tmp_path / "a" / "best.ckpt")
    refuse_run(tmp_path / "a", None)


def test_second_process_of_a_run_moves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    files = _earlier_run(tmp_path / "a", "what rank 0 wrote")
    open_run(tmp_path / "a")
    assert _tree(tmp_path / "a") == files


@pytest.mark.parametrize(
    ("begun", "saved", "told"),
    [
        ("train x", True, "goes on by the same command with --resume auto"),
        ("train x", False, "nothing was saved yet: give the same command again"),
        ("train y", True, "nothing was saved yet"),  # what lies there is an earlier run's
        (None, False, "nothing was saved yet"),
    ],
)
@pytest.mark.parametrize("signal_", [KeyboardInterrupt, SIGTERMException])
def test_a_signal_is_told_with_the_way_on(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    begun: str | None,
    saved: bool,
    told: str,
    signal_: type[BaseException],
) -> None:
    if begun is not None:
        (tmp_path / MARK).write_text(f"{begun}\n")
    if saved:
        (tmp_path / "last.ckpt").touch()

    def main() -> None:
        with advised(tmp_path, "train x", ["last.ckpt"], "--resume auto"):
            raise signal_

    assert guard(main)() == 143
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stopped by a signal; ")
    assert told in line
