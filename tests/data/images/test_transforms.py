import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from regrow.data.images.transforms import VOID, augmented, resize, resize_mask
from regrow.errors import BadInput


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
