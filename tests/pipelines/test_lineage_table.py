"""A chain of checkpoints is printed whole, as tables in 100 columns or as JSON."""

import json
from pathlib import Path

import pytest
from ancestors import made

from regrow.files import file_hash
from regrow.models.checkpoint import load, save
from regrow.pipelines.lineage_table import run_lineage


def test_the_text_tells_all_of_a_chain_in_100_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = made(tmp_path / "a" / "best.ckpt", 3)
    second = made(tmp_path / "b" / "best.ckpt", 5, first)
    task = load(second)
    task.provenance.command = "python scripts/train.py \x1b[2J" + "--fit.epochs=1 " * 20
    task.provenance.scores = {"val/accuracy": 0.98765, "val_class/ant": 0.5}
    task.provenance.change = "+2 images"
    save(second, task)
    run_lineage(second.parent)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    said = " ".join(text.split())
    for part in (
        f"1 checkpoint {file_hash(first)[:12]}: {first}",
        f"2 checkpoint {file_hash(second)[:12]}: {second}",
        "made with 3 images",
        "--fit.epochs=1 " * 20,
        "3 train, 0 val, 0 test images; 1 class: ant",
        f"+2 images, from {file_hash(first)[:12]}",
        "a training from the start",
        "val/accuracy 0.9877",
    ):
        assert part.strip() in said
    assert "val_class" not in said
    assert said.index("1 checkpoint") < said.index("2 checkpoint")


def test_of_many_classes_and_scores_ten_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = made(tmp_path / "a" / "best.ckpt", 3)
    task = load(file)
    assert task.provenance.manifest is not None
    task.provenance.manifest["classes"] = [f"class{number}" for number in range(13)]
    task.provenance.scores = {f"score{number}": number / 100 for number in range(13)}
    save(file, task)
    run_lineage(file)
    said = " ".join(capsys.readouterr().out.split())
    names = ", ".join(f"class{number}" for number in range(10))
    assert f"13 classes: {names} and 3 more" in said
    assert "score9 0.0900" in said
    assert "score10" not in said
    # As JSON it is whole.
    run_lineage(file, json=True)
    (link,) = json.loads(capsys.readouterr().out)["chain"]
    assert link["classes"][-1] == "class12"
    assert link["scores"]["score12"] == 0.12
    assert link["path"] == str(file)


def test_what_is_not_known_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = made(tmp_path / "a" / "best.ckpt", 3)
    second = made(tmp_path / "b" / "best.ckpt", 5, first, is_old=True)
    task = load(second)
    task.provenance.data, task.provenance.manifest, task.provenance.command = None, None, ""
    task.provenance.date = task.provenance.change = None
    missing = file_hash(first)
    first.unlink()
    run_lineage(second)
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith(
        f"The chain breaks off: parent {missing[:12]} not found below {tmp_path}"
    )
    assert "made before dates were kept" in said
    assert f"change unknown, from {missing[:12]}" in said
    assert said.endswith("scores not recorded")
