"""What a checkpoint remembers of its ancestors is small, and a stranger's is checked."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from regrow.data.snapshot import Manifest
from regrow.errors import BadInput
from regrow.models.checkpoint import load, load_provenance, save
from regrow.models.classification import Classification
from regrow.models.record.provenance import (
    Ancestor,
    Provenance,
    change_between,
    descent,
    now,
    read_lineage,
)


def manifest(count: int, classes: list[str]) -> Manifest:
    hashes = torch.arange(count, dtype=torch.uint8)[:, None].repeat(1, 16)
    splits = torch.tensor([0, 0, 0, 1, 2] * count, dtype=torch.uint8)[:count]
    return Manifest(hashes, torch.zeros(count, 8, dtype=torch.uint8), splits, classes)


def provenance(**changes: Any) -> Provenance:
    known: dict[str, Any] = {
        "data": "d" * 32,
        "manifest": manifest(10, ["ant", "bee"]).to_dict(),
        "parent": "1" * 64,
        "scores": {"val/accuracy": 0.5, "val_class/ant": 0.25},
        "command": "python scripts/train.py",
        "date": "2026-01-02T03:04:05+00:00",
        "change": "+5 images",
    }
    return Provenance(**known | changes)


def test_what_is_remembered_of_a_checkpoint() -> None:
    assert Ancestor.of("2" * 64, provenance()) == Ancestor(
        checkpoint="2" * 64,
        parent="1" * 64,
        command="python scripts/train.py",
        date="2026-01-02T03:04:05+00:00",
        data="d" * 32,
        num_images={"train": 6, "val": 2, "test": 2},
        num_classes=2,
        classes=["ant", "bee"],
        change="+5 images",
        scores={"val/accuracy": 0.5},
    )


def test_descent_adds_the_parent_to_what_it_remembers() -> None:
    first = descent("a" * 64, provenance(parent=None, change=None))
    second = descent("b" * 64, provenance(parent="a" * 64, lineage=first))
    assert [entry["checkpoint"] for entry in second] == ["a" * 64, "b" * 64]
    assert second[:1] == first
    assert [entry.parent for entry in read_lineage(second)] == [None, "a" * 64]


def test_a_generation_takes_a_few_kilobytes_whatever_is_in_it(tmp_path: Path) -> None:
    names = [f"class {number} {'x' * 500}" for number in range(3000)]
    scores = {f"val/{number}": 0.5 for number in range(3000)}
    long = provenance(
        command="y" * 10**6,
        manifest=manifest(250, names).to_dict(),
        scores=scores,
        change="z" * 10**6,
    )
    child = Provenance(parent="a" * 64, lineage=descent("a" * 64, long))
    assert len(str(child.lineage)) < 12_000
    (entry,) = read_lineage(child.lineage)
    assert entry.num_classes == 3000
    assert entry.classes[0].startswith("class 0 xxx")
    assert entry.command == "y" * 1997 + "..."
    many: list[dict[str, Any]] = []
    for number in range(1003):
        many = descent(f"{number}", Provenance(lineage=many))
    assert [entry["checkpoint"] for entry in many] == [f"{number}" for number in range(3, 1003)]
    task = Classification(["ant", "bee"], (32, 32))
    task.provenance = child
    save(tmp_path / "a.ckpt", task)
    assert load(tmp_path / "a.ckpt").provenance.lineage == child.lineage
    assert load_provenance(tmp_path / "a.ckpt") == load(tmp_path / "a.ckpt").provenance


ENTRY = asdict(Ancestor("2" * 64, "1" * 64, scores={"val/accuracy": 0.5}, num_images={"train": 3}))


@pytest.mark.parametrize(
    ("lineage", "message"),
    [
        ({"0": ENTRY}, "no list"),
        ([ENTRY] * 1001, "no list of at most 1000"),
        (["abc"], "no mapping"),
        ([{}], "hashes or commands that are no text"),
        ([{**ENTRY, "checkpoint": 5}], "hashes or commands"),
        ([{**ENTRY, "parent": b"1"}], "hashes or commands"),
        ([{**ENTRY, "command": "x" * 2001}], "too long"),
        ([{**ENTRY, "change": ["+1"]}], "hashes or commands"),
        ([{**ENTRY, "scores": {"val/accuracy": "high"}}], "no numbers by name"),
        ([{**ENTRY, "scores": {f"{n}": 0.5 for n in range(51)}}], "no numbers by name"),
        ([{**ENTRY, "num_images": {"train": True}}], "no numbers by name"),
        ([{**ENTRY, "num_images": [3]}], "no numbers by name"),
        ([{**ENTRY, "classes": "ant"}], "no list of names"),
        ([{**ENTRY, "classes": [1]}], "no list of names"),
        ([{**ENTRY, "num_classes": torch.tensor(1)}], "no list of names"),
    ],
)
def test_a_hostile_lineage_is_refused(tmp_path: Path, lineage: Any, message: str) -> None:
    task = Classification(["ant", "bee"], (32, 32))
    task.provenance = Provenance(lineage=lineage)
    save(tmp_path / "a.ckpt", task)
    for read in (load, load_provenance):
        with pytest.raises(BadInput, match=rf"a\.ckpt: its lineage .*{message}"):
            read(tmp_path / "a.ckpt")


def test_a_lineage_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    (entry,) = read_lineage([{**ENTRY, "weather": "fine"}])
    assert asdict(entry) == ENTRY


def test_a_checkpoint_from_before_lineage_loads(tmp_path: Path) -> None:
    task = Classification(["ant", "bee"], (32, 32))
    save(tmp_path / "a.ckpt", task)
    payload = torch.load(tmp_path / "a.ckpt")
    for name in ("lineage", "date", "change"):
        del payload["regrow"]["provenance"][name]
    torch.save(payload, tmp_path / "a.ckpt")
    loaded = load(tmp_path / "a.ckpt").provenance
    assert (loaded.lineage, loaded.date, loaded.change) == ([], "", None)


def test_a_change_is_known_where_the_old_data_is() -> None:
    new = manifest(12, ["ant", "bee", "cow"])
    assert change_between(provenance(), new) == "+2 images, +1 class"
    assert change_between(provenance(manifest=None), new) is None


def test_now_is_in_utc() -> None:
    assert abs(datetime.fromisoformat(now()) - datetime.now(UTC)) < timedelta(seconds=60)
    assert now().endswith("+00:00")
