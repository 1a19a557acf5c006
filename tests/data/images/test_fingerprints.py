"""What is known of a file is not read again, and what changed is."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from regrow.data.formats import ImageFolder, Masks
from regrow.data.images import fingerprint_file, fingerprints
from regrow.data.images import pixels as pixel_store
from regrow.data.images.fingerprints import Fingerprints
from regrow.data.images.pixels import PixelStore
from regrow.data.module import GrowingData
from regrow.data.source import Source
from regrow.data.targets.labels import Mask, label_digest
from regrow.errors import BadInput

Names = list[str]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep fingerprints below here, also those of files that were written just now."""
    monkeypatch.setenv("REGROW_CACHE", str(tmp_path / "cache"))
    fingerprint_file._say.cache_clear()
    monkeypatch.setattr(fingerprints, "SETTLED_NS", -(10**18))
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Return the names of the files that this process decodes."""
    names: Names = []

    def counted(decode: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def call(source: Any, *how: Any) -> np.ndarray:
            names.append(source.name)
            return decode(source, *how)

        return call

    for module in (fingerprints, pixel_store):
        for name in ("decode", "decode_noted", "decode_mask"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, counted(getattr(module, name)))
    return names


def pixels(value: int) -> np.ndarray:
    return np.random.default_rng(value).integers(0, 256, (8, 6, 3), dtype=np.uint8)


def pictures(root: Path, count: int = 10) -> Path:
    """Files of pixels that are all of one length, whatever the pixels."""
    for number in range(count):
        file = root / ("val" if number % 5 == 0 else "train") / "ab"[number % 2] / f"{number}.bmp"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number)).save(file)
    return root


def scenes(root: Path, numbers: np.ndarray | None = None) -> Path:
    shown = np.array([[0, 1, 11], [1, 1, 0]], np.uint8) if numbers is None else numbers
    for split in ("train", "val"):
        for part, shape in (("images", (2, 3, 3)), ("masks", (2, 3))):
            (root / part / split).mkdir(parents=True)
            content = shown if part == "masks" else np.full(shape, 7, np.uint8)
            Image.fromarray(content).save(root / part / split / "a.png")
    classes = {"classes": {"road": 0, "sky": int(shown.max() if numbers is not None else 1)}}
    (root / "classes.json").write_text(json.dumps({**classes, "void": 11}))
    return root


def data(root: Path, source: Source | None = None, **options: Any) -> GrowingData:
    known = {"size": (4, 6), "batch_size": 1, "test_share": 0.0}
    return GrowingData(source or ImageFolder(), root, **known | options)


def by_hand(image: np.ndarray) -> bytes:
    content = str(tuple(image.shape)).encode() + image.tobytes()
    return hashlib.blake2b(content, digest_size=16).digest()


def kept_file(cache: Path) -> Path:
    (file,) = cache.iterdir()
    return file


def test_a_second_start_decodes_nothing_and_finds_the_same(
    tmp_path: Path, cache: Path, decoded: Names
) -> None:
    root = pictures(tmp_path / "images")
    first = data(root)
    expected = {by_hand(pixels(number)) for number in range(10)}
    assert set(first.snapshot.hashes) == expected
    assert len(decoded) == 10
    second = data(root)
    assert set(second.snapshot.hashes) == expected
    assert second.snapshot.hash == first.snapshot.hash
    assert len(decoded) == 10
    batches = [list(module.train_dataloader()) for module in (first, second)]
    for (images, labels), (others, other_labels) in zip(*batches, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)


def test_a_second_epoch_after_a_second_start_is_served_from_memory(
    tmp_path: Path, cache: Path, decoded: Names
) -> None:
    root = pictures(tmp_path / "images")
    _ = data(root).snapshot
    loader = data(root).train_dataloader()
    first = sorted(images.numpy().tobytes() for images, _ in loader)
    assert len(decoded) == 10 + 8
    assert sorted(images.numpy().tobytes() for images, _ in loader) == first
    assert len(decoded) == 10 + 8


# torch warns of more workers than cores.
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("kind", [ImageFolder, Masks])
def test_workers_keep_for_each_other_what_they_read(
    tmp_path: Path, cache: Path, kind: type[Source]
) -> None:
    root = pictures(tmp_path / "d") if kind is ImageFolder else scenes(tmp_path / "d")
    _ = data(root, kind()).snapshot
    module = data(root, kind(), num_workers=2)
    loader = module.train_dataloader()
    first = [tuple(part.numpy().tobytes() for part in batch) for batch in loader]
    for part in ("train", "images", "masks"):
        shutil.rmtree(root / part, ignore_errors=True)
    again = [tuple(part.numpy().tobytes() for part in batch) for batch in loader]
    assert sorted(again) == sorted(first)
    assert len(first) == len(module.snapshot.indices("train"))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_is_kept_later_stays_within_its_bytes(
    tmp_path: Path, cache: Path, num_workers: int
) -> None:
    root = pictures(tmp_path / "images")
    _ = data(root).snapshot
    # An image takes 72 bytes and its mark one.
    module = data(root, cache_bytes=220, num_workers=num_workers)
    first, again = (sorted(i.numpy().tobytes() for i, _ in module.train_dataloader()) for _ in "ab")
    assert first == again
    assert len(set(first)) == 8
    kept = [entry for entry in module._loaded.kept if entry.num_bytes]
    assert [entry.num_bytes for entry in kept] == [72] * 3


def rewritten(file: Path) -> None:
    status = file.stat()
    Image.fromarray(pixels(99)).save(file)
    assert file.stat().st_size == status.st_size
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_mtime_ns == status.st_mtime_ns


def replaced(file: Path) -> None:
    other, status = file.with_name("other"), file.stat()
    Image.fromarray(pixels(99)).save(other, format="BMP")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(file)


def made_longer(file: Path) -> None:
    Image.fromarray(pixels(99)).resize((12, 16), Image.Resampling.NEAREST).save(file)


@pytest.mark.parametrize("change", [rewritten, replaced, made_longer])
def test_a_changed_file_is_read_again_whatever_its_time_says(
    tmp_path: Path, cache: Path, decoded: Names, change: Callable[[Path], None]
) -> None:
    root = pictures(tmp_path / "images")
    file = root / "train" / "b" / "3.bmp"
    for _ in range(2):
        _ = data(root).snapshot
    change(file)
    decoded.clear()
    module = data(root)
    assert by_hand(np.asarray(Image.open(file))) in module.snapshot.hashes
    assert by_hand(pixels(3)) not in module.snapshot.hashes
    assert decoded == ["3.bmp"]
    assert data(root).snapshot.hash == module.snapshot.hash
    assert decoded == ["3.bmp"]


def test_a_file_that_changed_just_now_is_not_remembered(
    tmp_path: Path, cache: Path, decoded: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "SETTLED_NS", 10**12)
    root = pictures(tmp_path / "images")
    for _ in range(2):
        _ = data(root).snapshot
    assert len(decoded) == 20


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b'"image":[8', b'"image":[9', 1),
        lambda content: b"",
        lambda content: b"\x80\x02" + content,
        lambda content: b"{}\n{}",
        lambda content: content.replace(b'"format": 3', b'"format": 2', 1),
        lambda content: content.replace(b'"pillow": "', b'"pillow": "0.', 1),
    ],
    ids=["half", "one digit", "empty", "binary", "foreign", "format", "pillow"],
)
def test_a_spoilt_cache_is_made_anew(
    tmp_path: Path, cache: Path, decoded: Names, spoil: Callable[[bytes], bytes]
) -> None:
    root = pictures(tmp_path / "images")
    whole = data(root).snapshot.hash
    file = kept_file(cache)
    content = file.read_bytes()
    assert spoil(content) != content
    file.write_bytes(spoil(content))
    decoded.clear()
    assert data(root).snapshot.hash == whole
    assert len(decoded) == 10
    assert file.read_bytes() == content


def test_what_is_kept_is_for_the_user_alone(tmp_path: Path, cache: Path) -> None:
    _ = data(pictures(tmp_path / "images")).snapshot
    assert cache.stat().st_mode & 0o777 == 0o700
    assert kept_file(cache).stat().st_mode & 0o777 == 0o600


def sign(content: Any) -> bytes:
    """A file of fingerprints that is whole and of today, whatever it keeps."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return fingerprint_file._head(body) + b"\n" + body


DIGEST = hashlib.blake2b(b"", digest_size=16).hexdigest()
GOOD = [8, 6, DIGEST, [], [], DIGEST, {}]
BAD_ENTRIES: list[Any] = [
    5,
    None,
    "",
    [],
    {},
    GOOD[:-1],
    [*GOOD, 1],
    *([*GOOD[:place], value, *GOOD[place + 1 :]] for place, value in [
        (0, "8"), (0, 0), (0, -1), (0, 8.5), (0, None), (0, True), (1, 10**40), (2, 5),
        (2, DIGEST[:-2]), (2, DIGEST[:-1]), (2, "zz" * 16), (2, DIGEST + "00"), (3, 5), (3, ["a"]),
        (3, [1]), (3, [[1]]), (4, [1]), (4, None), (5, ""), (5, DIGEST[2:]), (5, {}), (6, []),
        (6, {"deep": []}), (6, {"deep": [0, 1, 2, "3"]}), (6, {"other": []}), (6, {"alpha": 5}),
    ]),
]  # fmt: skip


@pytest.mark.parametrize("entry", BAD_ENTRIES, ids=lambda entry: json.dumps(entry)[:60])
def test_fingerprints_that_are_none_are_made_anew(
    tmp_path: Path, cache: Path, decoded: Names, entry: Any
) -> None:
    root = pictures(tmp_path / "images")
    whole = data(root).snapshot.hash
    file = kept_file(cache)
    content = file.read_bytes()
    known = json.loads(content.partition(b"\n")[2])
    assert sign(known) != content  # it is written without blanks
    for own in known.values():
        own[1]["image"] = entry
    file.write_bytes(sign(known))
    decoded.clear()
    assert data(root).snapshot.hash == whole
    assert len(decoded) == 10
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    "change",
    [
        lambda known: [],
        lambda known: 5,
        lambda known: dict.fromkeys(known, 5),
        lambda known: {name: [entry[0]] for name, entry in known.items()},
        lambda known: {name: [entry[0], 5] for name, entry in known.items()},
        lambda known: {name: [5, entry[1]] for name, entry in known.items()},
        lambda known: {name: [["a", {}, 0], entry[1]] for name, entry in known.items()},
        lambda known: b"[" * 100_000,
        lambda known: b"9" * 10_000,
        lambda known: b"\xff",
        lambda known: b"NaN",
    ],
)
def test_a_cache_of_another_shape_is_made_anew(
    tmp_path: Path, cache: Path, decoded: Names, change: Callable[[Any], Any]
) -> None:
    root = pictures(tmp_path / "images")
    whole = data(root).snapshot.hash
    file = kept_file(cache)
    content = file.read_bytes()
    file.write_bytes(sign(change(json.loads(content.partition(b"\n")[2]))))
    decoded.clear()
    assert data(root).snapshot.hash == whole
    assert len(decoded) == 10
    assert file.read_bytes() == content


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_is_neither_believed_nor_used(
    tmp_path: Path, cache: Path, decoded: Names, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    root = pictures(tmp_path / "images")
    _ = data(root).snapshot
    before = kept_file(cache).read_bytes()
    cache.chmod(mode)
    decoded.clear()
    for _ in range(2):
        _ = data(root).snapshot
    assert len(decoded) == 20
    assert kept_file(cache).read_bytes() == before
    said = [line for line in capsys.readouterr().err.splitlines() if "believed" in line]
    assert said == [
        f"{cache}: others than its owner can write it, so that nothing in it is believed; "
        "set REGROW_CACHE to another folder, or to off"
    ]


@pytest.mark.parametrize("change", ["mode", "owner", "link", "pipe", "folder"])
@pytest.mark.timeout(20)
def test_a_file_that_others_can_write_is_made_anew(
    tmp_path: Path,
    cache: Path,
    decoded: Names,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    root = pictures(tmp_path / "images")
    whole = data(root).snapshot.hash
    file = kept_file(cache)
    content = file.read_bytes()
    if change == "mode":
        file.chmod(0o660)
    elif change == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(file, 12345, -1)
    else:
        moved = file.rename(tmp_path / "moved")
        if change == "link":
            file.symlink_to(moved)
        elif change == "pipe":
            os.mkfifo(file)
        else:
            file.mkdir()
    decoded.clear()
    assert data(root).snapshot.hash == whole
    assert len(decoded) == 10
    said = capsys.readouterr().err
    if change == "folder":
        assert "cannot be written (Is a directory)" in said
        return
    assert str(file) in said
    assert "not believed" in said
    assert file.read_bytes() == content
    assert file.stat().st_uid == os.geteuid()


def test_a_folder_of_another_user_is_neither_believed_nor_used(
    tmp_path: Path, cache: Path, decoded: Names, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives folders away")
    cache.mkdir()
    os.chown(cache, 12345, -1)
    _ = data(pictures(tmp_path / "images")).snapshot
    assert not [*cache.iterdir()]
    assert f"{cache}: another user owns it" in capsys.readouterr().err


def test_a_huge_cache_is_not_read(
    tmp_path: Path, cache: Path, decoded: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pictures(tmp_path / "images")
    _ = data(root).snapshot
    monkeypatch.setattr(fingerprint_file, "MAX_BYTES", kept_file(cache).stat().st_size)
    _ = data(root).snapshot
    assert len(decoded) == 20


def test_corrupt_files_are_named_at_every_start(tmp_path: Path, cache: Path) -> None:
    root = pictures(tmp_path / "images")
    (root / "train" / "b" / "3.bmp").write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(BadInput, match=r"3\.bmp: corrupt"):
            _ = data(root).snapshot
        module = data(root, skip_corrupt=True)
        assert len(module.snapshot.items) == 9
        assert module.num_skipped == 1
        assert "train/b/3.bmp" in module.skipped[0]


def test_masks_are_known_by_the_names_of_their_numbers(
    tmp_path: Path, cache: Path, decoded: Names
) -> None:
    root = scenes(tmp_path / "scenes")
    numbers = np.array([[0, 1, 11], [1, 1, 0]], np.uint8)
    for names in (["road", "sky"], ["sky", "road"], ["road", "sky"]):
        (root / "classes.json").write_text(json.dumps({"classes": names, "void": 11}))
        module = data(root, Masks())
        mask = Mask(numbers, dict(enumerate(names)), frozenset({11}))
        assert module.snapshot.digests == (label_digest(mask, numbers),) * 2
    # Two images and two masks, and the masks by other names.
    assert len(decoded) == 4 + 2
    called = data(root, Masks()).manifest({"road": "sky", "sky": "road"})
    assert len(decoded) == 4 + 2
    other = Mask(numbers, {0: "sky", 1: "road"})
    assert called.digests[0].numpy().tobytes() == label_digest(other, numbers)


def test_known_masks_are_checked_like_others(tmp_path: Path, cache: Path) -> None:
    root = scenes(tmp_path / "scenes")
    assert data(root, Masks()).classes == ["road", "sky"]
    (root / "classes.json").write_text(json.dumps({"classes": {"road": 0, "sky": 1}}))
    for _ in range(2):
        with pytest.raises(BadInput, match=r"masks/train/a\.png: the mask has the number 11"):
            _ = data(root, Masks()).snapshot
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / "masks" / "train" / "a.png")
    for _ in range(2):
        with pytest.raises(BadInput, match="the mask is 4x4, the image 3x2"):
            _ = data(root, Masks()).snapshot


def test_numbers_above_a_byte_are_kept_whole(tmp_path: Path, cache: Path, decoded: Names) -> None:
    numbers = np.array([[0, 300, 0], [300, 300, 0]], np.uint16)
    root = scenes(tmp_path / "scenes", numbers)
    for _ in range(2):
        loader = data(root, Masks(), size=(2, 3)).val_dataloader()
        for _ in range(2):
            ((_, mask),) = list(loader)
            assert mask.tolist() == [[[0, 1, 0], [1, 1, 0]]]
    assert len(decoded) == 4 + 2


def test_files_that_are_gone_are_forgotten_and_others_not(
    tmp_path: Path, cache: Path, decoded: Names
) -> None:
    root = pictures(tmp_path / "images")
    _ = data(root).snapshot
    (root / "train" / "b" / "3.bmp").unlink()
    Image.fromarray(pixels(50)).save(root / "train" / "b" / "50.bmp")
    decoded.clear()
    few = data(root, max_images=2)
    _ = few.snapshot
    _ = data(root).snapshot
    assert decoded == ["50.bmp"]
    names = {Path(name).name for name in json.loads(kept_file(cache).read_bytes().split(b"\n")[1])}
    assert names == {f"{number}.bmp" for number in (*range(3), *range(4, 10), 50)}


def test_a_start_that_is_interrupted_keeps_what_it_found(
    tmp_path: Path, cache: Path, decoded: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pictures(tmp_path / "images")
    decode = fingerprints.decode_noted

    def interrupted(source: Any, *how: Any) -> np.ndarray:
        if len(decoded) == 6:
            raise KeyboardInterrupt
        return decode(source, *how)

    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, "decode_noted", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _ = data(root).snapshot
    _ = data(root).snapshot
    assert len(decoded) == 10


def test_the_cache_lies_where_users_expect_it(
    tmp_path: Path, cache: Path, decoded: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pictures(tmp_path / "images")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REGROW_CACHE", "off")
    for _ in range(2):
        _ = data(root).snapshot
    assert len(decoded) == 20
    assert not cache.exists()
    assert not (tmp_path / "home").exists()
    monkeypatch.delenv("REGROW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    _ = data(root).snapshot
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.chdir(root)
    _ = data(Path(".")).snapshot
    for folder in (tmp_path / "xdg" / "regrow", tmp_path / "home" / ".cache" / "regrow"):
        assert kept_file(folder).name.startswith("images-")
    # One folder by two names is one root.
    before = len(decoded)
    _ = data(root).snapshot
    assert len(decoded) == before


def test_a_cache_that_cannot_be_written_is_said_and_done_without(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REGROW_CACHE", str(tmp_path / "file" / "below"))
    module = data(pictures(tmp_path / "images"))
    assert len(module.snapshot.hashes) == 10
    said = capsys.readouterr().err.strip()
    assert "cannot be written (Not a directory)" in said
    assert "set REGROW_CACHE" in said
    assert "\n" not in said


def test_pixels_that_lie_in_no_file_are_looked_at_every_time(cache: Path, tmp_path: Path) -> None:
    held = pixels(1)
    with Fingerprints(tmp_path) as known:
        assert known.image(held).digest == by_hand(held)
        held[0, 0, 0] ^= 1
        assert known.image(held).digest == by_hand(held)
        assert known.image(lambda: held).digest == by_hand(held)
    assert not cache.exists()


def test_places_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_store, "SLAB", 100)
    room = PixelStore(10_000)
    random = np.random.default_rng(0)
    sizes = random.integers(1, 9, (20, 2)).tolist()
    given = []
    for number, (height, width) in enumerate(sizes):
        numbers = (None, (0, 1), (0, 300))[number % 3]
        place = room.place((50, 50), (height, width), numbers)
        image = np.full((height, width, 3), number, np.uint8)
        shown = number if numbers == (0, 1) else 300 - number
        mask = None if numbers is None else np.full((height, width), shown, np.int32)
        place.fill(image, mask)
        given.append((place, image, mask))
    for place, image, mask in given:
        assert place.image is not None
        assert (place.image == image.transpose(2, 0, 1)).all()
        assert (place.mask is None) == (mask is None)
        assert mask is None or (place.mask == mask).all()
