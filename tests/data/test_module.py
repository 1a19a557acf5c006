from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from given import Given, batches, data, folder, labelled, masked, picture, thrice
from regrow.data.batches.mixture import Mixture
from regrow.data.formats import ImageFolder, ManifestFile, Masks
from regrow.data.module import GrowingData
from regrow.data.sample import Digits
from regrow.data.targets.labels import VOID, Boxes, Item, Mask
from regrow.errors import BadInput


def equal(one: list, other: list) -> bool:
    flat, flat_other = ([part for pair in pairs for part in pair] for pairs in (one, other))
    return len(one) == len(other) and all(map(torch.equal, flat, flat_other))


# Batches.


def test_a_batch_holds_the_pixels_and_labels_of_the_items() -> None:
    items = labelled(6, "val")
    module = data([*labelled(8), *items])
    (images, labels), (rest, _) = batches(module.val_dataloader())
    assert images.dtype == torch.uint8
    assert images.shape == (4, 3, 4, 6)
    assert rest.shape == (2, 3, 4, 6)
    for image, item in zip([*images, *rest], items, strict=True):
        assert (image.permute(1, 2, 0).numpy() == item.image).all()
    assert labels.tolist() == [0, 1, 0, 1]
    assert (module.kind, module.classes, module.size) == ("labels", ["a", "b"], (4, 6))


def test_training_is_shuffled_and_leaves_out_a_small_last_batch() -> None:
    module = data([*labelled(10), *labelled(2, "val")])
    loader = module.train_dataloader()
    assert [len(labels) for _, labels in loader] == [4, 4]
    few = data([*labelled(3), *labelled(2, "val")])
    assert [len(labels) for _, labels in few.train_dataloader()] == [3]
    first = batches(loader)
    loader.sampler.set_epoch(1)
    assert not equal(first, batches(loader))


def test_boxes_are_scaled_to_the_resized_image() -> None:
    target = Boxes(np.array([[1, 2, 3, 4], [0, 0, 6, 4]], np.float32), ("b", "a"))
    empty = Boxes(np.zeros((0, 4), np.float32), ())
    items = [*thrice(target), Item("empty", picture(1), empty, "val")]
    module = data(items, size=(8, 3))
    ((images, targets),) = batches(module.val_dataloader())
    assert images.shape == (2, 3, 8, 3)
    # Across 3/6, down 8/4.
    assert targets[0]["boxes"].tolist() == [[0.5, 4, 1.5, 8], [0, 0, 3, 8]]
    assert targets[0]["labels"].tolist() == [1, 0]
    assert targets[1]["boxes"].shape == (0, 4)
    assert targets[1]["labels"].dtype == torch.long


def test_boxes_are_those_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # stored on its side: 4 wide and 8 high once upright
    Image.fromarray(picture(0, (4, 8))).save(tmp_path / "a.png", exif=exif)
    target = Boxes(np.array([[0, 4, 4, 8]], np.float32), ("a",))
    for cache_bytes in (0, 1000):
        module = data(
            thrice(target, image=tmp_path / "a.png"), size=(4, 4), cache_bytes=cache_bytes
        )
        ((_, (found,)),) = batches(module.val_dataloader())
        assert found["boxes"].tolist() == [[0, 2, 4, 4]]


@pytest.mark.parametrize("cache_bytes", [0, 10_000])
def test_masks_hold_rows_and_void(cache_bytes: int) -> None:
    numbers = np.array([[7, 7, 3], [255, 9, 1000]], np.uint16)
    target = Mask(numbers, {3: "a", 7: "b"}, frozenset({9, 1000}))
    module = data(thrice(target, (2, 3)), size=(2, 6), cache_bytes=cache_bytes)
    module.order_classes(["new", "a", "b"])
    ((images, masks),) = batches(module.val_dataloader())
    assert images.shape == (1, 3, 2, 6)
    assert masks.dtype == torch.uint8
    assert masks.tolist() == [[[2, 2, 2, 2, 1, 1], [VOID] * 6]]


def test_masks_have_room_for_255_classes() -> None:
    target = Mask(np.full((4, 6), 254, np.uint8), {n: str(n) for n in range(256)})
    names = [str(n) for n in range(256)]
    with pytest.raises(BadInput, match="masks have at most 255 classes, these 256"):
        data(Given(thrice(target), names)).val_dataloader()
    fits = Mask(np.full((4, 6), 254, np.uint8), {n: str(n) for n in range(255)})
    ((_, masks),) = batches(data(Given(thrice(fits), names[:255])).val_dataloader())
    assert set(masks.flatten().tolist()) == {254}


# Classes.


def test_classes_are_those_of_the_data_or_those_asked_for() -> None:
    items = [*labelled(4), *labelled(4, "val")]
    module = data(items, classes=["new", "b", "a"])
    assert module.classes == ["new", "b", "a"]
    assert module.snapshot.classes == ("new", "b", "a")
    ((_, labels),) = batches(module.val_dataloader())
    assert labels.tolist() == [2, 1, 2, 1]


def test_a_label_that_is_not_among_the_classes_is_refused() -> None:
    with pytest.raises(
        BadInput,
        match="4 bad rows.* train1: its label 'b' is none of the classes a; .*add the class",
    ):
        _ = data([*labelled(4), *labelled(4, "val")], classes=["a"]).classes


def test_classes_named_twice_are_refused() -> None:
    items = [*labelled(4), *labelled(4, "val")]
    with pytest.raises(BadInput, match=r"data\.classes: the class b is named twice"):
        _ = data(items, classes=["b", "a", "b"]).snapshot
    with pytest.raises(BadInput, match="Given: the class a is named twice"):
        _ = data(Given(items, "aab")).snapshot


def test_order_classes_puts_labels_at_the_places_of_a_network() -> None:
    module = data([*labelled(4), *labelled(4, "val")])
    module.order_classes(["z", "b", "old"], {"a": "old"})
    ((_, labels),) = batches(module.val_dataloader())
    assert labels.tolist() == [2, 1, 2, 1]
    assert module.classes == ["a", "b"]


def test_order_classes_refuses_a_network_without_a_class() -> None:
    module = data([*labelled(4), *labelled(4, "val")])
    with pytest.raises(BadInput, match="classes b, which the network lacks; data: a, b; network"):
        module.order_classes(["a", "c"])


# What cannot be used.


def test_fewer_images_than_processes_are_refused() -> None:
    module = data(thrice("a"))
    module.trainer = SimpleNamespace(world_size=2, global_rank=0)
    with pytest.raises(BadInput, match="1 val images for 2 processes; lower fit.devices"):
        module.val_dataloader()


def test_a_split_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"Given: no val images in it; raise data\.val_share, or"):
        _ = data(labelled(4), val_share=0).snapshot
    with pytest.raises(BadInput, match=r"Given: no train images in it; lower data\.val_share"):
        _ = data(labelled(4, "val")).snapshot
    with pytest.raises(BadInput, match=rf"{tmp_path}: no val images in it; raise"):
        _ = data(ImageFolder(), root=folder(tmp_path, 2), val_share=1e-9, test_share=0).snapshot
    module = data([*labelled(4), *labelled(4, "val")], test_share=0)
    with pytest.raises(BadInput, match=r"no test images in it; raise data\.test_share"):
        module.test_dataloader()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"data\.batch_size is 0 and data\.size \(4, 6\); both must be > 0"),
        ({"size": (0, 3)}, r"data\.size \(0, 3\); both must be"),
        ({"val_share": 0.5, "test_share": 0.5}, "must leave something to train on"),
        ({"val_share": -0.1}, "must leave something to train on"),
        ({"balance": 0.0}, r"data\.balance is 0\.0, it must lie in \(0, 1\], or be null"),
        ({"balance": 1.5}, r"data\.balance is 1\.5, it must lie in"),
        ({"num_workers": -1}, r"data\.num_workers is -1 and .* both must be 0 or more"),
        ({"max_pixels": 0}, r"data\.max_pixels is 0, it must be at least 1"),
        ({"grey_range": (9, 9)}, r"data\.grey_range is \[9, 9\]; it must be two values"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        data(labelled(), **options)


# The cache.


def test_what_is_kept_is_not_read_again(tmp_path: Path) -> None:
    module = data(ImageFolder(), root=folder(tmp_path / "files"), val_share=0.3)
    masks = data(Masks(), root=masked(tmp_path / "masks"), size=(2, 3))
    expected = [batches(m.examples("train")[0, n] for n in range(2)) for m in (module, masks)]
    for path in [*tmp_path.rglob("*.png")]:
        path.unlink()
    found = [batches(m.examples("train")[0, n] for n in range(2)) for m in (module, masks)]
    assert equal(found[0], expected[0])
    assert equal(found[1], expected[1])


def test_the_cache_changes_nothing_but_the_room_it_takes(tmp_path: Path) -> None:
    folder(tmp_path / "files")
    masked(tmp_path / "masks")
    for source, root in ((ImageFolder(), tmp_path / "files"), (Masks(), tmp_path / "masks")):
        options = {"root": root, "val_share": 0.3, "size": (3, 5), "batch_size": 1}
        # An image takes 45 bytes, a mask 15, and the mark that they are there one.
        modules = [data(source, cache_bytes=room, **options) for room in (0, 100, 10**6)]
        given = [batches(module.train_dataloader()) for module in modules]
        assert equal(given[0], given[1])
        assert equal(given[0], given[2])
        sizes = [sum(kept.num_bytes for kept in module._loaded.kept) for module in modules]
        assert sizes[0] == 0
        assert 45 <= sizes[1] <= 100
        assert sizes[2] == len(modules[2].snapshot.items) * (
            45 if source.__class__ is ImageFolder else 60
        )


# Randomness.

AUGMENT = [
    v2.RandomCrop((4, 6), padding=2),
    v2.ColorJitter(brightness=0.5),
    v2.RandomHorizontalFlip(),
]


def augmented(**options: Any) -> GrowingData:
    return data([*labelled(16), *labelled(4, "val")], augment=AUGMENT, **options)


def test_augmentation_is_a_function_of_seed_epoch_and_index() -> None:
    first = augmented().examples("train")[3, 5][0]
    torch.manual_seed(99)
    assert torch.equal(augmented().examples("train")[3, 5][0], first)
    original = torch.from_numpy(picture(5)).permute(2, 0, 1)
    assert not torch.equal(first, original)
    for seed, epoch in ((0, 4), (1, 3), (2, 3), (0, 5)):
        other = augmented(seed=seed).examples("train")[epoch, 5][0]
        assert not torch.equal(other, first)


def test_equal_images_at_two_places_are_augmented_differently() -> None:
    items = [Item(f"{n}", picture(0), "a", "train") for n in range(4)]
    examples = data([*items, *labelled(1, "val")], augment=AUGMENT).examples("train")
    images = [examples[0, n][0] for n in range(4)]
    assert not all(torch.equal(one, other) for one, other in pairwise(images))


# torch warns of more workers than cores.
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_batches_do_not_depend_on_workers_or_the_global_stream() -> None:
    alone = batches(augmented().train_dataloader())
    torch.manual_seed(7)
    np.random.seed(7)
    assert equal(batches(augmented(num_workers=2).train_dataloader()), alone)
    assert not equal(batches(augmented(seed=1).train_dataloader()), alone)


def test_only_training_is_augmented() -> None:
    images, _ = batches(augmented().val_dataloader())[0]
    assert torch.equal(images[2], torch.from_numpy(picture(2)).permute(2, 0, 1))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_resumed_loader_goes_on_mid_epoch_exactly(num_workers: int) -> None:
    whole = augmented().train_dataloader()
    whole.sampler.set_epoch(2)
    expected = batches(whole)
    cut = augmented().train_dataloader()
    cut.sampler.set_epoch(2)
    given = iter(cut)
    start = [next(given) for _ in range(2)]
    resumed = augmented(num_workers=num_workers).train_dataloader()
    resumed.load_state_dict(cut.state_dict())
    resumed.sampler.set_epoch(2)
    assert equal([*start, *batches(resumed)], expected)


def test_ranks_share_an_epoch_without_overlap() -> None:
    shown = []
    for rank in range(2):
        module = data([*labelled(16), *labelled(5, "val")])
        module.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        shown.append([module.train_dataloader(), module.val_dataloader()])
    for split, count in ((0, 16), (1, 5)):
        images = [
            image.numpy().tobytes()
            for loaders in shown
            for batch, _ in loaders[split]
            for image in batch
        ]
        expected = {picture(n).transpose(2, 0, 1).tobytes() for n in range(count)}
        assert sorted(images) == sorted(expected)


# Growth.


def test_a_folder_that_grows_moves_no_image_to_another_split(tmp_path: Path) -> None:
    def splits() -> dict[str, str]:
        whole = data(ImageFolder(), root=tmp_path, val_share=0.3).snapshot
        return dict(zip(whole.hashes, whole.splits, strict=True))

    folder(tmp_path, 30)
    before = splits()
    (tmp_path / "a").rename(tmp_path / "z")
    folder(tmp_path, 60)
    (tmp_path / "z" / "0.png").rename(tmp_path / "b" / "moved.png")
    after = splits()
    assert len(after) == 60
    assert before.items() <= after.items()
    assert set(before.values()) >= {"train", "val"}


def unsplit(counts: dict[str, int]) -> list[Item]:
    names = [name for name, count in counts.items() for _ in range(count)]
    return [Item(f"{place}.png", picture(place), name) for place, name in enumerate(names)]


def test_stratified_splits_hold_out_the_share_of_each_class() -> None:
    items = unsplit({"a": 40, "b": 10})
    census = data(items, val_share=0.2, test_share=0.1, stratify=True).census()
    assert [census[s]["classes"]["a"]["images"] for s in ("train", "val", "test")] == [28, 8, 4]
    assert [census[s]["classes"]["b"]["images"] for s in ("train", "val", "test")] == [7, 2, 1]
    plain = data(items, val_share=0.2, test_share=0.1).snapshot
    assert Counter(plain.splits) != {"train": 35, "val": 10, "test": 5}


def test_boxes_and_masks_are_stratified_by_the_rarest_class_that_they_show() -> None:
    common = Boxes(np.array([[0, 0, 4, 4]], np.float32), ("a",))
    # The box of b is lost at this size, and the image is one of b all the same.
    rare = Boxes(np.array([[0, 0, 4, 4], [0, 0, 1, 1]], np.float32), ("a", "b"))
    pixels = np.zeros((4, 6), np.uint8)
    both = np.where(np.arange(6) < 1, 1, 0)[None].repeat(4, 0).astype(np.uint8)
    names = {0: "a", 1: "b"}
    for one, other in ((common, rare), (Mask(pixels, names), Mask(both, names))):
        items = [Item(f"{n}.png", picture(n), other if n < 10 else one) for n in range(50)]
        splits = data(items, val_share=0.2, size=(2, 2), stratify=True).snapshot.splits
        assert [splits[:10].count("val"), splits[10:].count("val")] == [2, 8]


def test_stratified_splits_that_a_checkpoint_knows_stay() -> None:
    few, many = unsplit({"a": 20, "b": 10}), unsplit({"a": 20, "b": 40})
    options = {"val_share": 0.3, "stratify": True}
    before = data(few, **options)
    manifest = before.manifest().to_dict()
    early, late, free = (data(many, **options) for _ in range(3))
    early.keep_splits_(manifest)
    _ = late.snapshot
    late.keep_splits_(manifest)
    known = dict(zip(before.snapshot.hashes, before.snapshot.splits, strict=True))
    for module in (early, late):
        splits = dict(zip(module.snapshot.hashes, module.snapshot.splits, strict=True))
        assert known.items() <= splits.items()
        assert module.census()["val"]["classes"]["b"]["images"] == 12
    splits = dict(zip(free.snapshot.hashes, free.snapshot.splits, strict=True))
    assert not known.items() <= splits.items(), "else nothing is tested here"


def test_other_splits_are_no_concern_of_a_checkpoint() -> None:
    module = data(unsplit({"a": 20, "b": 20}), val_share=0.3)
    splits = module.snapshot.splits
    stratified = data(unsplit({"a": 20, "b": 20}), val_share=0.1, stratify=True)
    module.keep_splits_(stratified.manifest().to_dict())
    module.keep_splits_(None)
    assert module.snapshot.splits == splits


def test_balanced_sampling_shows_classes_equally_often_in_training_alone() -> None:
    items = [Item(f"{n}", picture(n), "b" if n < 4 else "a", "train") for n in range(20)]

    def labels(module: GrowingData, epoch: int = 0) -> Counter[int]:
        loader = module.train_dataloader()
        assert len(loader) == 5
        loader.sampler.set_epoch(epoch)
        return Counter(torch.cat([labels for _, labels in loader]).tolist())

    module = data([*items, *labelled(9, "val")], balance=1.0)
    counts = [labels(module, epoch)[1] for epoch in range(40)]
    # Each of the four comes 2 or 3 times, 2.5 on average.
    assert 8 <= min(counts) <= max(counts) <= 12
    assert np.mean(counts) == pytest.approx(10, abs=0.7)
    # As the rows of a network have the classes.
    module.order_classes(["c", "b", "a"])
    assert labels(module, 39)[1] == counts[39]
    assert [len(own) for _, own in module.val_dataloader()] == [4, 4, 1]
    assert labels(data([*items, *labelled(9, "val")])) == {0: 16, 1: 4}


def test_the_weights_of_a_warm_start_stand_before_balanced_sampling() -> None:
    items = [Item(f"{n}", picture(n), "ab"[n % 2], "train") for n in range(4)]
    module = data([*items, *labelled(4, "val")], balance=1.0)
    module.mixture = Mixture([0, 0, 0, 1])
    assert torch.cat([y for _, y in module.train_dataloader()]).tolist() == [1] * 4


def test_a_list_with_groups_keeps_them_together(tmp_path: Path) -> None:
    lines = ["image,label,group"]
    for number in range(40):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number % 2]},video{number // 4}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    splits = data(ManifestFile(), root=tmp_path, val_share=0.3).snapshot.splits
    assert all(len(set(splits[start : start + 4])) == 1 for start in range(0, 40, 4))


def test_the_sample_loads_in_both_stages() -> None:
    young, grown = (GrowingData(Digits(stage)) for stage in ("young", "grown"))
    assert young.classes == [str(digit) for digit in range(8)]
    assert len(grown.classes) == 10
    images, labels = next(iter(grown.train_dataloader()))
    assert images.shape == (64, 3, 32, 32)
    assert set(labels.tolist()) <= set(range(10))


def test_some_images_of_each_split_are_drawn_the_same_ones_every_time() -> None:
    def names(count: int | None) -> list[str]:
        data = GrowingData(Digits(), max_images=count, val_share=0.0, test_share=0.0)
        return [item.name for item in data.snapshot.items]

    few, all_ = names(10), names(None)
    assert few == names(10)
    assert set(few) < set(all_)
    assert few == sorted(few, key=all_.index), "in the order of the source"
    for split in ("train", "val", "test"):
        drawn = [name for name in few if f"/{split}/" in name]
        assert len(drawn) == 10
        assert drawn != [name for name in all_ if f"/{split}/" in name][:10]
    assert names(10_000) == all_
    with pytest.raises(BadInput, match="max_images is 0"):
        names(0)
