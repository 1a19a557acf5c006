"""A chain of checkpoints is followed by what each remembers, and by the files that are there."""

from pathlib import Path

import pytest
from ancestors import made

from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.record.provenance import Provenance, descent
from regrow.pipelines.lineage import find_checkpoint, follow


def test_a_parent_is_found_by_its_hash_whatever_it_is_called(tmp_path: Path) -> None:
    first = made(tmp_path / "a" / "best.ckpt", 3)
    second = made(tmp_path / "b" / "best.ckpt", 5, first)
    decoy = made(tmp_path / "c" / "best.ckpt", 4)
    moved = tmp_path / "deep" / "er" / "other.ckpt"
    moved.parent.mkdir(parents=True)
    first.rename(moved)
    decoy.rename(first)  # another network at the old name
    chain = follow(second.parent)
    assert [link.path for link in chain.links] == [moved, second]
    assert [link.ancestor.num_images["train"] for link in chain.links] == [3, 5]
    assert [link.ancestor.change for link in chain.links] == [None, "+2 images"]
    assert chain.end is None


def test_what_is_remembered_outlives_the_files(tmp_path: Path) -> None:
    first = made(tmp_path / "a" / "best.ckpt", 3)
    second = made(tmp_path / "b" / "best.ckpt", 5, first)
    task, parent = load(second), load(first)
    task.provenance.lineage = descent(file_hash(first), parent.provenance)
    save(second, task)
    hashes = [file_hash(first), file_hash(second)]
    first.unlink()
    chain = follow(second)
    assert [link.ancestor.checkpoint for link in chain.links] == hashes
    assert [link.path for link in chain.links] == [None, second]
    assert chain.links[0].ancestor.command == "made with 3 images"
    assert chain.end is None


@pytest.mark.parametrize(
    ("is_old", "why"),
    [(True, "was written before lineage was kept"), (False, "remembers no more than 1000")],
)
def test_a_chain_ends_where_a_parent_is_lost(tmp_path: Path, is_old: bool, why: str) -> None:
    first = made(tmp_path / "a" / "best.ckpt", 3)
    second = made(tmp_path / "b" / "best.ckpt", 5, first, is_old=is_old)
    lost, folder = file_hash(first), tmp_path / "elsewhere"
    folder.mkdir()
    first.rename(folder / "hidden.txt")  # no checkpoint by its name
    chain = follow(second, [folder])
    assert [link.path for link in chain.links] == [second]
    assert chain.end is not None
    assert chain.end.startswith(
        f"parent {lost[:12]} not found below {tmp_path} nor {folder}; "
        f"{file_hash(second)[:12]}, which was made from it, {why}"
    )


def test_a_chain_that_bites_its_tail_ends(tmp_path: Path) -> None:
    task = Classification(["ant", "bee"], (32, 32))
    entries = [{"checkpoint": "a", "parent": "b"}, {"checkpoint": "b", "parent": "a"}]
    task.provenance = Provenance(parent="b", lineage=entries)
    save(tmp_path / "run" / "best.ckpt", task)
    chain = follow(tmp_path / "run")
    assert chain.end == "b is named as an ancestor of itself"
    assert [link.ancestor.checkpoint for link in chain.links[:-1]] == ["a", "b"]


def test_a_runs_network_is_the_latest_of_its_files(tmp_path: Path) -> None:
    for name in ("last.ckpt", "best.ckpt", "pruned.ckpt"):
        (tmp_path / name).touch()
        assert find_checkpoint(tmp_path) == tmp_path / name
    assert find_checkpoint(tmp_path / "last.ckpt") == tmp_path / "last.ckpt"
    with pytest.raises(BadInput) as refused:
        find_checkpoint(tmp_path / "none")
    assert str(refused.value) == (
        f"{tmp_path / 'none'}: no run with a checkpoint (pruned.ckpt, best.ckpt, last.ckpt); "
        "give a run's folder or a .ckpt file"
    )
