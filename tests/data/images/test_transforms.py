from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from regrow.data.images.opening import CorruptImage
from regrow.data.images.transforms import VOID, augmented, decode, decode_mask, resize, resize_mask
from regrow.errors import BadInput

RAINBOW = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RAINBOW[..., 0]


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def test_decode_gives_rgb_as_it_was_saved(tmp_path: Path) -> None:
    found = decode(saved(tmp_path / "a.png", Image.fromarray(RAINBOW)))
    assert found.dtype == np.uint8
    assert (found == RAINBOW).all()
    assert decode(RAINBOW) is RAINBOW


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_turns_a_photo_upright(tmp_path: Path, orientation: int) -> None:
    # TIFF 6.0 and EXIF, tag 274: what row 0 and column 0 of the file show of the upright image.
    stored = {
        1: RAINBOW,
        2: RAINBOW[:, ::-1],
        3: RAINBOW[::-1, ::-1],
        4: RAINBOW[::-1],
        5: RAINBOW.transpose(1, 0, 2),
        6: np.rot90(RAINBOW, 1),
        7: np.rot90(RAINBOW.transpose(1, 0, 2), 2),
        8: np.rot90(RAINBOW, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    assert (decode(saved(tmp_path / "a.png", image, exif=exif)) == RAINBOW).all()


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_decode_takes_the_high_byte_of_16_bits(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 255, 256], [32768, 65279, 65535]], np.uint16)
    found = decode(saved(tmp_path / f"a.{suffix}", Image.fromarray(deep)))
    assert found.dtype == np.uint8
    for channel in range(3):
        assert found[..., channel].tolist() == [[0, 0, 1], [128, 254, 255]]


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_decode_repeats_grey(tmp_path: Path, mode: str) -> None:
    black_and_white = np.where(GREY > 127, 255, 0).astype(np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(black_and_white).convert(mode))
    assert (decode(path) == black_and_white[..., None]).all()
    assert decode(path).shape == (5, 7, 3)


@pytest.mark.parametrize("transparency", [None, 1, b"\xff\x00\x80"])
def test_decode_gives_the_colours_of_a_palette(tmp_path: Path, transparency) -> None:
    palette = [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "L").convert("P")
    image.putpalette([value for colour in palette for value in colour])
    options = {} if transparency is None else {"transparency": transparency}
    found = decode(saved(tmp_path / "a.png", image, **options))
    assert found.tolist() == [[palette[0], palette[1]], [palette[2], palette[1]]]


def test_decode_drops_alpha(tmp_path: Path) -> None:
    alpha = np.dstack([RAINBOW, GREY])
    assert (decode(saved(tmp_path / "a.png", Image.fromarray(alpha))) == RAINBOW).all()


def test_decode_names_a_truncated_image(tmp_path: Path) -> None:
    for suffix in ("png", "jpg"):
        path = saved(tmp_path / f"cut.{suffix}", Image.fromarray(RAINBOW.repeat(20, 0)))
        path.write_bytes(path.read_bytes()[:-60])
        with pytest.raises(CorruptImage, match=rf"cut\.{suffix}: corrupt or truncated .*skip_cor"):
            decode(path)


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_decode_names_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.png"
    path.write_bytes(content)
    with pytest.raises(CorruptImage, match=r"^.*text\.png: corrupt or truncated .*$"):
        decode(path)


def test_what_is_missing_is_not_corrupt(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.png: no such file") as found:
        decode(tmp_path / "none.png")
    assert not isinstance(found.value, CorruptImage)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(BadInput, match=r"folder\.png is a folder") as found:
        decode(tmp_path / "folder.png")
    assert not isinstance(found.value, CorruptImage)


def test_decode_refuses_numbers_that_are_no_colours(tmp_path: Path) -> None:
    heights = Image.fromarray(np.linspace(0, 9, 6, dtype=np.float32).reshape(2, 3))
    with pytest.raises(BadInput, match="32-bit numbers, not colours"):
        decode(saved(tmp_path / "heights.tif", heights))


def test_decode_mask_gives_the_indices_of_a_palette_and_wide_numbers(tmp_path: Path) -> None:
    numbers = np.array([[0, 2], [1, 255]], np.uint8)
    image = Image.fromarray(numbers, "L").convert("P")
    image.putdata(numbers.ravel().tolist())
    image.putpalette([value for value in range(256) for _ in range(3)][::-1])
    assert decode_mask(saved(tmp_path / "p.png", image)).tolist() == numbers.tolist()
    assert decode_mask(saved(tmp_path / "l.png", Image.fromarray(numbers))).tolist() == [
        [0, 2],
        [1, 255],
    ]
    wide = np.array([[0, 1000]], np.uint16)
    assert decode_mask(saved(tmp_path / "i.png", Image.fromarray(wide))).tolist() == [[0, 1000]]
    assert decode_mask(numbers) is numbers


def test_decode_mask_refuses_colours(tmp_path: Path) -> None:
    path = saved(tmp_path / "rgb.png", Image.fromarray(RAINBOW))
    with pytest.raises(BadInput, match=r"rgb\.png: a mask has one channel .* this has \(5, 7, 3\)"):
        decode_mask(path)


def test_resize_averages_as_pillow_does() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    found = resize(torch.from_numpy(image).permute(2, 0, 1), (10, 15)).permute(1, 2, 0).numpy()
    expected = np.asarray(Image.fromarray(image).resize((15, 10), Image.Resampling.BILINEAR))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_resize_leaves_the_right_size_alone() -> None:
    image, mask = torch.zeros(3, 4, 5, dtype=torch.uint8), torch.zeros(4, 5, dtype=torch.uint8)
    assert resize(image, (4, 5)) is image
    assert resize_mask(mask, (4, 5)) is mask


@given(st.tuples(*[st.integers(1, 9)] * 4), st.sampled_from([torch.uint8, torch.int32]))
def test_resize_mask_takes_the_nearest_centre(sizes, dtype) -> None:
    height, width, new_height, new_width = sizes
    mask = torch.arange(height * width, dtype=dtype).view(height, width) * (3 if height < 5 else 2)
    found = resize_mask(mask, (new_height, new_width))
    assert found.dtype == dtype
    for y in range(new_height):
        for x in range(new_width):
            # The new pixel's centre lies in this old pixel (exact, in whole numbers).
            row = (2 * y + 1) * height // (2 * new_height)
            column = (2 * x + 1) * width // (2 * new_width)
            assert found[y, x] == mask[row, column]


def test_resize_mask_keeps_wide_numbers() -> None:
    mask = torch.tensor([[40000, 65535]], dtype=torch.int32)
    assert resize_mask(mask, (2, 4)).tolist() == [[40000, 40000, 65535, 65535]] * 2


class Shift(v2.Transform):
    """Shift to the right by one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = v2.RandomAffine(0, translate=(0, 0))

    def transform(self, inpt, params):
        return v2.functional.affine(inpt, 0.0, [1, 0], 1.0, [0.0, 0.0])


def image_of(size: tuple[int, int] = (4, 6)) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)


def boxed(*rows: list[float]) -> dict[str, Tensor]:
    return {"boxes": torch.tensor(rows), "labels": torch.arange(len(rows))}


FLIP = v2.RandomHorizontalFlip(p=1.0)


def test_augmented_flips_image_boxes_and_mask_alike() -> None:
    image = image_of()
    found, label = augmented(image, torch.tensor(3), [FLIP], 0)
    assert (found == image.flip(-1)).all()
    assert type(found) is Tensor
    assert label == 3
    _, target = augmented(image, boxed([1, 0, 3, 2]), [FLIP], 0)
    assert target["boxes"].tolist() == [[3, 0, 5, 2]]
    assert target["labels"].tolist() == [0]
    mask = torch.arange(24, dtype=torch.uint8).view(4, 6)
    _, turned = augmented(image, mask, [FLIP], 0)
    assert turned.dtype == torch.uint8
    assert (turned == mask.flip(-1)).all()


def test_augmented_leaves_void_where_a_mask_is_uncovered() -> None:
    mask = torch.tensor([[0, 1, 2, VOID, 4, 5]] * 4, dtype=torch.uint8)
    _, found = augmented(image_of(), mask, [Shift()], 0)
    assert found.tolist() == [[VOID, 0, 1, 2, VOID, 4]] * 4


def test_augmented_cuts_boxes_at_the_edge_and_drops_what_is_gone() -> None:
    target = boxed([0, 0, 2, 2], [3, 0, 6, 4], [5, 1, 6, 3], [4, 0, 5.5, 4])
    _, found = augmented(image_of(), target, [Shift()], 0)
    assert found["boxes"].tolist() == [[1, 0, 3, 2], [4, 0, 6, 4], [5, 0, 6, 4]]
    assert found["labels"].tolist() == [0, 1, 3]


def test_augmented_takes_an_image_without_boxes() -> None:
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    _, found = augmented(image_of(), empty, [FLIP, Shift()], 0)
    assert found["boxes"].shape == (0, 4)
    assert found["labels"].shape == (0,)


RANDOM = [v2.RandomCrop((8, 8), padding=3), v2.ColorJitter(0.5, 0.5), v2.RandomHorizontalFlip()]


def test_augmented_is_a_function_of_the_seed_and_leaves_the_process_stream_alone() -> None:
    image, mask = image_of((8, 8)), image_of((8, 8))[0]
    torch.manual_seed(1)
    first = augmented(image, mask, RANDOM, 5)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.rand(1) == after
    second = augmented(image, mask, RANDOM, 5)
    assert all((one == other).all() for one, other in zip(first, second, strict=True))
    others = [augmented(image, mask, RANDOM, seed)[0] for seed in range(6, 12)]
    assert not any((first[0] == other).all() for other in others)
    assert (image == image_of((8, 8))).all()


def test_augmented_restores_the_stream_when_a_transform_fails() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="larger"):
        augmented(image_of(), torch.tensor(0), [v2.RandomCrop((9, 9))], 3)
    assert torch.rand(1) == expected


@pytest.mark.parametrize(
    "transform", [v2.RandomCrop((2, 2)), v2.ToDtype(torch.float32)], ids=["size", "dtype"]
)
def test_augmented_refuses_another_size_or_type(transform: v2.Transform) -> None:
    with pytest.raises(BadInput, match=r"must stay uint8 of data\.size \[4, 6\]"):
        augmented(image_of(), torch.tensor(0), [transform], 0)
