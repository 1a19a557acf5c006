"""What a job delivers is whole, and of its own run."""

import shutil
from pathlib import Path

import pytest

from regrow.deploy.sagemaker.delivery import deliver


def keep(run: Path, text: str, *names: str) -> None:
    """Write what counts as a memory: a list, and images that hold their names."""
    (run / "memory" / "images").mkdir(parents=True)
    (run / "memory" / "snapshot.json").write_text(text)
    for name in names:
        (run / "memory" / "images" / name).write_text(name)


def test_a_memory_is_delivered_whole_and_an_old_one_goes(tmp_path: Path) -> None:
    run, model = tmp_path / "run", tmp_path / "model"
    listed = model / "memory" / "snapshot.json"
    keep(run, "first", "0.png", "1.png")
    deliver(run, model)
    assert sorted(file.read_text() for file in model.rglob("*.png")) == ["0.png", "1.png"]
    place = listed.stat().st_ino
    deliver(run, model)
    assert listed.stat().st_ino == place, "what is there already is not copied again"
    shutil.rmtree(run)
    keep(run, "again", "2.png")
    deliver(run, model)
    assert [file.read_text() for file in model.rglob("*.png")] == ["2.png"]
    assert listed.read_text() == "again"
    assert list(model.iterdir()) == [model / "memory"]
    shutil.rmtree(run)
    deliver(run, model)
    assert not list(model.iterdir())


def test_a_memory_that_cannot_be_copied_whole_is_not_delivered(tmp_path: Path) -> None:
    run, model = tmp_path / "run", tmp_path / "model"
    keep(run, "{}", "0.png")
    (run / "memory" / "images" / "1.png").symlink_to("gone.png")
    with pytest.raises(OSError, match=r"images/1\.png"):
        deliver(run, model)
    assert not list(model.iterdir())
