"""What is left of the old images is found, joined, or asked for."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from regrow.data.formats import ImageFolder
from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.incremental.history import HELD_OUT, History, Part, join_history_
from regrow.incremental.memory import stood_for, store_memory
from regrow.incremental.warm_start import WarmStart
from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.models.record.provenance import Provenance

MakeData = Callable[..., GrowingData]


def known_by(data: GrowingData) -> Provenance:
    return Provenance(data=data.snapshot.hash, manifest=data.snapshot.manifest().to_dict())


def save_network(checkpoint: Path, data: GrowingData) -> None:
    network = Classification(data.classes, (4, 4))
    network.provenance = known_by(data)
    save(checkpoint, network)


def count(data: GrowingData) -> tuple[int, ...]:
    return tuple(len(data.snapshot.indices(split)) for split in ("train", "val", "test"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file in the place of a checkpoint, of which only the folder counts."""
    file = tmp_path / "old" / "best.ckpt"
    file.parent.mkdir()
    file.write_bytes(b"")
    return file


@pytest.fixture
def at_hand(tmp_path: Path, checkpoint: Path) -> GrowingData:
    """Old images in a folder, which the `data.yaml` beside the checkpoint names."""
    root = tmp_path / "images"
    for split, number in (("train", 12), ("val", 3), ("test", 2)):
        for place in range(number):
            picture(root / split / "ab"[place % 2] / f"{place}.png", [*split.encode(), place])
    source = {"class_path": "regrow.data.formats.ImageFolder"}
    content = {"data": {"source": source, "root": str(root), "size": [4, 4]}}
    (checkpoint.parent / "data.yaml").write_text(yaml.safe_dump(content))
    return folder(root)


def picture(file: Path, seed: int | list[int]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(file)


def folder(root: Path | None) -> GrowingData:
    return GrowingData(ImageFolder(), root, size=(4, 4))


def test_old_images_at_hand_are_told_from_new_and_nothing_is_joined(
    make_data: MakeData, checkpoint: Path
) -> None:
    old = make_data(train=6, val=2, test=2)
    store_memory(old, 3, checkpoint.parent)
    both = make_data(train=4, val=2, seed=1)
    both.join_(old, "old")
    before = both.snapshot.hash
    history = join_history_(both, checkpoint, known_by(old))
    assert both.snapshot.hash == before
    assert history == History(6, 6, [True] * 4 + [False] * 6, [])
    assert history.num_all == 10
    assert (history.has_memory, history.forgets) == (False, False)


def test_images_that_were_held_out_before_are_new_to_the_network(
    make_data: MakeData, checkpoint: Path
) -> None:
    old = make_data(train=6, val=2)
    provenance = known_by(old)
    provenance.manifest["splits"][5] = 2  # type: ignore[index]
    history = join_history_(old, checkpoint, provenance)
    assert history.is_new == [False] * 5 + [True]
    assert history.num_known == 5


def test_a_memory_beside_the_checkpoint_is_joined(make_data: MakeData, checkpoint: Path) -> None:
    old, new = make_data(train=10, val=4, test=4), make_data(train=8, val=2, seed=1)
    store_memory(old, 0.5, checkpoint.parent)
    history = join_history_(new, checkpoint, known_by(old))
    assert count(new) == (8 + 5, 2 + 2, 2)
    assert history.num_known == 5
    assert history.num_all == 8 + 10
    assert history.is_new == [True] * 8 + [False] * 5
    memory = str((checkpoint.parent / "memory").absolute())
    assert history.parts == [Part(memory, True, ("train", "val", "test"))]
    assert (history.has_memory, history.forgets) == (True, False)


def test_training_images_of_a_memory_without_test_images_stay_training_images(
    make_data: MakeData, checkpoint: Path
) -> None:
    """Carved out, a tenth would be test images that the network was trained on."""
    old, new = make_data(train=80, val=4), make_data(train=8, val=2, test=2, seed=1)
    store_memory(old, 1, checkpoint.parent)
    assert join_history_(new, checkpoint, known_by(old)).num_known == 80
    assert count(new) == (8 + 80, 2 + 4, 2)


def test_names_of_a_memory_are_those_of_now(make_data: MakeData, checkpoint: Path) -> None:
    old = make_data(train=9, val=3, classes="axz")
    new = make_data(train=4, val=2, seed=1)
    store_memory(old, 1, checkpoint.parent)
    join_history_(new, checkpoint, known_by(old), renamed={"x": "b"}, removed=["z"])
    assert new.classes == ["a", "b"]
    assert count(new) == (4 + 6, 2 + 2, 0)
    assert [i.target for i in new.snapshot.items[6:12]] == ["a", "b"] * 3


@pytest.mark.parametrize("has_memory", [True, False])
def test_old_images_of_a_removed_class_are_not_counted(
    make_data: MakeData, checkpoint: Path, has_memory: bool
) -> None:
    old = make_data(train=9, val=3, classes="axz")  # three of each
    new = make_data(train=4, val=2, classes="ax", seed=1)
    if has_memory:
        store_memory(old, 3, checkpoint.parent)
    history = join_history_(
        new, checkpoint, known_by(old), removed=["z"], allow_forgetting=not has_memory
    )
    assert history.num_old == 6
    assert history.num_all == 4 + 6


def test_a_memory_of_a_memory_counts_all_that_it_stands_for(
    make_data: MakeData, checkpoint: Path, tmp_path: Path
) -> None:
    first, second, third = (make_data(train=8, val=2, seed=seed) for seed in range(3))
    store_memory(first, 2, tmp_path)
    second.join_(Part(str(tmp_path / "memory"), True).read(second), "memory")
    store_memory(second, 4, checkpoint.parent, before=stood_for(tmp_path / "memory"))
    history = join_history_(third, checkpoint, known_by(second))
    assert history.num_known == 4
    assert history.num_all == 3 * 8


def test_old_data_at_hand_gives_its_held_out_images_beside_a_memory(
    make_data: MakeData, checkpoint: Path, at_hand: GrowingData
) -> None:
    new = make_data(train=8, val=2, seed=1)
    store_memory(at_hand, 4, checkpoint.parent)
    history = join_history_(new, checkpoint, known_by(at_hand))
    # The memory trains; all the old validation and test images score.
    assert count(new) == (8 + 4, 2 + 3, 2)
    assert [part.splits for part in history.parts] == [("train",), ("val", "test")]
    assert (history.num_known, history.has_memory) == (4, True)
    for split, first in (("val", 2), ("test", 0)):
        old, now = at_hand.snapshot, new.snapshot
        held_out = [old.hashes[place] for place in old.indices(split)]
        assert [now.hashes[place] for place in now.indices(split)][first:] == held_out


def change_(root: Path, how: str) -> None:
    """Change old images on disk: one in its pixels, label or split, or two that are gone."""
    first, other = root / "val" / "a" / "0.png", root / "val" / "b" / "1.png"
    if how == "pixels":
        picture(first, 99)
    elif how == "unreadable":
        first.write_bytes(b"torn")
    elif how == "gone":
        first.unlink()
        other.unlink()
    else:
        new = {"label": "val/b/0.png", "split": "test/a/9.png"}[how]
        first.rename(root / new)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("pixels", "1 of 17 old images missing, or changed"),
        ("label", "1 of 17 old images missing, or changed"),
        ("split", "1 of 17 old images missing, or changed"),
        ("gone", "2 of 17 old images missing, or changed"),
        ("unreadable", "0.png: "),
    ],
)
def test_old_data_that_is_no_longer_what_it_was_is_refused(
    make_data: MakeData, checkpoint: Path, at_hand: GrowingData, how: str, said: str
) -> None:
    provenance, root = known_by(at_hand), at_hand.root
    store_memory(at_hand, 4, checkpoint.parent)
    assert root is not None
    change_(root, how)
    new = make_data(train=8, val=2, seed=1)
    with pytest.raises(BadInput) as told:
        join_history_(new, checkpoint, provenance)
    line, settings = str(told.value), checkpoint.parent / "data.yaml"
    assert "\n" not in line
    assert line.startswith(str(root))
    assert said in line
    assert f"restore that, or move {settings} away" in line
    assert count(new) == (8, 2, 0)
    # The way out: what the memory holds is what there is.
    settings.unlink()
    join_history_(new, checkpoint, provenance)
    assert count(new) == (8 + 4, 2 + 1, 1)


def test_old_data_that_is_gone_leaves_the_memory(
    make_data: MakeData, checkpoint: Path, at_hand: GrowingData, tmp_path: Path
) -> None:
    provenance = known_by(at_hand)
    store_memory(at_hand, 4, checkpoint.parent)
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    new = make_data(train=8, val=2, seed=1)
    history = join_history_(new, checkpoint, provenance)
    assert [part.is_memory for part in history.parts] == [True]
    assert count(new) == (8 + 4, 2 + 1, 1)


def test_old_data_that_a_file_describes_by_foreign_classes_is_not_looked_for(
    make_data: MakeData,
    checkpoint: Path,
    at_hand: GrowingData,
    capsys: pytest.CaptureFixture[str],
) -> None:
    provenance, file = known_by(at_hand), checkpoint.parent / "data.yaml"
    store_memory(at_hand, 4, checkpoint.parent)
    content = yaml.safe_load(file.read_text())
    content["data"]["augment"] = [{"class_path": "my.own.Transform"}]
    file.write_text(yaml.safe_dump(content))
    new = make_data(train=8, val=2, seed=1)
    history = join_history_(new, checkpoint, provenance)
    assert [part.is_memory for part in history.parts] == [True]
    said = capsys.readouterr().err
    assert "the old images are not looked for" in said
    assert "names 'my.own.Transform'" in said


@pytest.mark.parametrize("is_copied", [False, True])
def test_new_data_may_take_the_place_of_the_old(
    checkpoint: Path, at_hand: GrowingData, tmp_path: Path, is_copied: bool
) -> None:
    provenance, root = known_by(at_hand), tmp_path / "images"
    store_memory(at_hand, 4, checkpoint.parent)
    for number, file in enumerate(sorted(root.rglob("*.png"))):
        picture(file, 100 + number)
    link = tmp_path / "link"
    _ = shutil.copytree(root, link) if is_copied else link.symlink_to(root)
    new = folder(link)
    history = join_history_(new, checkpoint, provenance)
    assert [part.is_memory for part in history.parts] == [True]
    assert count(new) == (12 + 4, 3 + 1, 2 + 1)


@pytest.mark.parametrize("limit", [None, 3], ids=["all", "some"])
def test_old_data_that_grew_gives_the_old_images_alone(
    make_data: MakeData, checkpoint: Path, at_hand: GrowingData, limit: int | None
) -> None:
    at_hand.max_images, root = limit, at_hand.root
    content = yaml.safe_load((checkpoint.parent / "data.yaml").read_text())
    content["data"]["max_images"] = limit
    (checkpoint.parent / "data.yaml").write_text(yaml.safe_dump(content))
    old, provenance = at_hand.snapshot, known_by(at_hand)
    store_memory(at_hand, 3, checkpoint.parent)
    assert root is not None
    for number, name in enumerate(("val/a/7.png", "test/c/8.png", "train/c/9.png")):
        picture(root / name, 200 + number)
    new = make_data(train=8, val=2, seed=1)
    join_history_(new, checkpoint, provenance)
    assert new.classes == ["a", "b"]
    assert count(new) == (8 + 3, 2 + 3, 2)
    added = {new.snapshot.hashes[place] for place in new.snapshot.indices("val")[2:]}
    assert added == {old.hashes[place] for place in old.indices("val")}


def test_the_data_of_a_run_that_had_a_memory_is_not_whole_in_its_folder(
    make_data: MakeData, checkpoint: Path, at_hand: GrowingData
) -> None:
    both = at_hand.copy()
    both.join_(make_data(train=4, val=2, seed=5), "memory")
    store_memory(both, 4, checkpoint.parent)
    parts = [Part("/older/memory", True)]
    history = History(4, 4, [True] * 12 + [False] * 4, parts)
    WarmStart("/older/best.ckpt", "", {}, [], {}, None, 0.5, 0, history).write(checkpoint.parent)
    new = make_data(train=8, val=2, seed=1)
    found = join_history_(new, checkpoint, known_by(both))
    assert [part.is_memory for part in found.parts] == [True]


def test_new_images_alone_are_refused_with_the_way_out(
    make_data: MakeData, checkpoint: Path
) -> None:
    old, new = make_data(train=6, val=2), make_data(train=8, val=2, seed=1)
    with pytest.raises(BadInput) as told:
        join_history_(new, checkpoint, known_by(old))
    line = str(told.value)
    assert "\n" not in line
    assert line.startswith(f"none of the 8 training images is one of the 6 that {checkpoint} was")
    for way_out in ("give old and new images together,", "`replay`", "--allow-forgetting"):
        assert way_out in line
    assert count(new) == (8, 2, 0)


def test_the_refusal_says_where_old_data_is_at_hand(
    make_data: MakeData, checkpoint: Path, at_hand: GrowingData
) -> None:
    new = make_data(train=8, val=2, seed=1)
    with pytest.raises(BadInput, match=r"images together \(it is still where it was\), or keep"):
        join_history_(new, checkpoint, known_by(at_hand))
    assert count(new) == (8, 2, 0)


def test_forgetting_can_be_allowed(make_data: MakeData, checkpoint: Path) -> None:
    old, new = make_data(train=6, val=2), make_data(train=8, val=2, seed=1)
    history = join_history_(new, checkpoint, known_by(old), allow_forgetting=True)
    assert history == History(0, 6, [True] * 8, [])
    assert (history.has_memory, history.forgets) == (False, True)


def test_allowed_forgetting_is_measured_on_old_images_at_hand(
    make_data: MakeData, checkpoint: Path, at_hand: GrowingData
) -> None:
    new = make_data(train=8, val=2, seed=1)
    history = join_history_(new, checkpoint, known_by(at_hand), allow_forgetting=True)
    assert count(new) == (8, 2 + 3, 2)
    assert history.forgets
    assert not history.has_memory


def test_a_memory_is_used_though_forgetting_is_allowed(
    make_data: MakeData, checkpoint: Path
) -> None:
    old, new = make_data(train=6, val=2), make_data(train=8, val=2, seed=1)
    store_memory(old, 2, checkpoint.parent)
    history = join_history_(new, checkpoint, known_by(old), allow_forgetting=True)
    assert (history.num_known, history.has_memory, history.forgets) == (2, True, False)


def test_a_memory_that_has_changed_is_refused(make_data: MakeData, checkpoint: Path) -> None:
    old, new = make_data(train=6, val=2), make_data(train=8, val=2, seed=1)
    store_memory(old, 2, checkpoint.parent)
    file = checkpoint.parent / "memory" / "images" / "000000.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(file)
    with pytest.raises(BadInput, match=r"000000\.png: not what was stored"):
        join_history_(new, checkpoint, known_by(old))


def test_a_checkpoint_that_does_not_say_its_data_has_no_known_images(
    make_data: MakeData, checkpoint: Path
) -> None:
    new = make_data(train=8, val=2)
    history = join_history_(new, checkpoint, Provenance())
    assert history == History(None, 0, [True] * 8, [])
    assert not history.forgets


def test_what_a_run_remembers_of_its_history_comes_back() -> None:
    parts = [Part("/x/memory", True, ("train",)), Part("/x/best.ckpt", False, ("val", "test"))]
    for history in (History(3, 9, [True, False, False], parts), History(None, 0, [], [])):
        assert History.from_dict(history.to_dict()) == history


def test_a_resumed_run_joins_the_same_images_again(
    make_data: MakeData, checkpoint: Path, at_hand: GrowingData
) -> None:
    store_memory(at_hand, 4, checkpoint.parent)
    save_network(checkpoint, at_hand)
    first, again = (make_data(train=8, val=2, seed=1) for _ in range(2))
    history = join_history_(first, checkpoint, known_by(at_hand), renamed={"b": "c"})
    for part in History.from_dict(history.to_dict()).parts:
        part.join_(again, {"b": "c"})
    assert again.snapshot.hash == first.snapshot.hash
    assert again.snapshot.hashes == first.snapshot.hashes
    assert [i.name for i in again.snapshot.items] == [i.name for i in first.snapshot.items]


def test_a_resumed_run_refuses_old_images_that_changed_since(
    make_data: MakeData, checkpoint: Path, at_hand: GrowingData
) -> None:
    save_network(checkpoint, at_hand)
    assert at_hand.root is not None
    change_(at_hand.root, "gone")
    part = Part(str(checkpoint), False, HELD_OUT)
    with pytest.raises(BadInput, match="images: 2 of 17 old images missing"):
        part.join_(make_data(train=8, val=2), {})


def test_fewer_old_images_than_a_memory_has_do_not_stand_for_it(
    make_data: MakeData, checkpoint: Path
) -> None:
    old, new = make_data(train=6, val=2), make_data(train=8, val=2, seed=1)
    store_memory(old, 3, checkpoint.parent)
    new.join_(make_data(train=1, val=1), "old")
    history = join_history_(new, checkpoint, known_by(old))
    assert history.has_memory
    assert history.num_known in (3, 4)  # the one that was there may be in the memory too
