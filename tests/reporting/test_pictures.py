from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from regrow.data.targets.ignored import separated
from regrow.data.targets.labels import CROWD, OBJECT, VOID
from regrow.reporting.pictures import CAPTION, color, draw, picture, save_picture

GREY = 60


def _halves(pair: Tensor) -> tuple[Tensor, Tensor]:
    """Truth and prediction of one drawn pair, without the captions."""
    width = (pair.shape[2] - 2) // 2
    body = pair[:, :-CAPTION]
    return body[:, :, :width], body[:, :, -width:]


def _images(num: int, side: int = 32) -> Tensor:
    return torch.full((num, 3, side, side), GREY, dtype=torch.uint8)


def test_neighbouring_colours_differ() -> None:
    colors = torch.tensor([color(index) for index in range(40)]).float()
    assert torch.cdist(colors, colors).fill_diagonal_(1000).min() > 8
    assert torch.cdist(colors[:10], colors[:10]).fill_diagonal_(1000).min() > 40


def test_small_images_are_enlarged_by_a_whole_factor_and_kept() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 24), dtype=torch.uint8)
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    pairs = draw(images, probabilities, torch.tensor([0, 0]), ["a", "b"], "labels")
    assert pairs.shape == (2, 3, 192 + CAPTION, 2 * 144 + 2)
    for image, pair in zip(images, pairs, strict=True):
        for half in _halves(pair):
            assert torch.equal(half[:, ::6, ::6], image)
            assert torch.equal(half[:, 5::6, 5::6], image)


def test_right_labels_are_green_and_wrong_ones_red() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
    pairs = draw(_images(2), probabilities, torch.tensor([0, 1]), ["ant", "bee"], "labels")
    captions = pairs[:, :, -CAPTION:, -192:].float().mean((2, 3))
    right, wrong = captions
    assert right[1] > right[0]
    assert wrong[0] > wrong[1]


def test_boxes_are_drawn_in_the_colour_of_their_class() -> None:
    targets = [{"boxes": torch.tensor([[4.0, 8, 12, 16]]), "labels": torch.tensor([1])}]
    predictions = [
        {
            "boxes": torch.tensor([[20.0, 2, 30, 12], [1, 1, 3, 3], [5, 5, 5, 9]]),
            "labels": torch.tensor([0, 0, 0]),
            # The second is unsure, the third has no width.
            "scores": torch.tensor([0.9, 0.01, 0.9]),
        }
    ]
    pairs = draw(_images(1), predictions, targets, ["ant", "bee"], "boxes")
    truth, predicted = _halves(pairs[0])
    scale = 6
    assert tuple(truth[:, 12 * scale, 4 * scale].tolist()) == color(1)
    assert tuple(truth[:, 16 * scale, 8 * scale].tolist()) == color(1)
    assert truth[:, 14 * scale, 10 * scale].tolist() == [GREY] * 3  # inside
    assert tuple(predicted[:, 7 * scale, 20 * scale].tolist()) == color(0)
    # Nothing where the truth is, nor where the unsure box would be.
    assert (predicted[:, :, : 18 * scale] == GREY).all()


def test_ignored_boxes_are_drawn_in_grey_below_the_objects() -> None:
    target = separated(
        torch.tensor([[4.0, 8, 12, 16], [20, 8, 28, 16]]),
        torch.tensor([1, 1]),
        torch.tensor([OBJECT, CROWD]),
    )
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "scores": torch.zeros(0)}
    truth, predicted = _halves(draw(_images(1), [none], [target], ["ant", "bee"], "boxes")[0])
    scale = 6
    assert tuple(truth[:, 12 * scale, 4 * scale].tolist()) == color(1)
    assert truth[:, 14 * scale, 20 * scale].tolist() == [150] * 3
    assert (predicted == GREY).all()


def test_image_without_boxes_stays_as_it_is() -> None:
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    predictions = [none | {"scores": torch.zeros(0)}]
    pairs = draw(_images(1), predictions, [none], ["a"], "boxes")
    for half in _halves(pairs[0]):
        assert (half == GREY).all()


def test_masks_are_overlaid_half_and_void_is_left_out() -> None:
    target = torch.zeros(1, 32, 32, dtype=torch.uint8)
    target[0, :, 16:] = 1
    target[0, 0] = VOID
    prediction = torch.ones(1, 32, 32, dtype=torch.uint8)
    pairs = draw(_images(1), prediction, target, ["ant", "bee"], "masks")
    truth, predicted = _halves(pairs[0])
    blends = [[(GREY + channel) / 2 for channel in color(index)] for index in (0, 1)]
    assert truth[:, 96, 48].tolist() == pytest.approx(blends[0], abs=1)
    assert truth[:, 96, 144].tolist() == pytest.approx(blends[1], abs=1)
    assert (truth[:, :6] == GREY).all()
    assert predicted[:, 96, 48].tolist() == pytest.approx(blends[1], abs=1)


def test_background_is_not_drawn_and_stands_in_no_legend() -> None:
    target = torch.zeros(1, 32, 32, dtype=torch.uint8)
    target[0, :, 16:] = 1
    names = ["background", "bee"]
    truth, predicted = _halves(draw(_images(1), target, target, names, "masks")[0])
    for half in (truth, predicted):
        assert (half[:, :, :96] == GREY).all()
        assert half[:, 96, 144].tolist() != [GREY] * 3
    legend = picture(_images(1), target, target, names, "masks")[:, -18:].flatten(1).T.tolist()
    assert list(color(1)) in legend
    assert list(color(0)) not in legend


def test_many_boxes_have_no_names_that_would_hide_the_image() -> None:
    def drawn(count: int) -> Tensor:
        left = torch.arange(count) * 2.0
        boxes = torch.stack([left, left, left + 30, left + 30], dim=1)
        target = {"boxes": boxes, "labels": torch.ones(count).long()}
        none = {name: value[:0] for name, value in target.items()} | {"scores": torch.zeros(0)}
        pair = draw(_images(1, 128), [none], [target], ["ant", "a long name"], "boxes")[0]
        return _halves(pair)[0]

    colored = [(drawn(count) != GREY).any(0).sum() for count in (8, 9)]
    assert colored[1] < colored[0]  # the filled fields of the names are gone, with a box more
    assert list(color(1)) in drawn(9).flatten(1).T.tolist()


def test_void_is_left_out_even_with_256_classes() -> None:
    target = torch.full((1, 8, 8), VOID, dtype=torch.uint8)
    pairs = draw(_images(1, 8), target, target, [str(i) for i in range(256)], "masks")
    assert all((half == GREY).all() for half in _halves(pairs[0]))


@pytest.mark.parametrize("num_images", [1, 3, 8])
def test_picture_holds_all_pairs_and_a_legend(num_images: int) -> None:
    masks = torch.zeros(num_images, 32, 32, dtype=torch.uint8)
    image = picture(_images(num_images), masks, masks, ["ant", "bee"], "masks")
    assert image.dtype == torch.uint8
    legend = image[:, -18:].flatten(1).T.tolist()
    for index in (0, 1):
        assert list(color(index)) in legend
    pairs = draw(_images(num_images), masks, masks, ["ant", "bee"], "masks")
    frame = 0 if num_images == 1 else 4
    first = image[:, frame : frame + pairs.shape[2], frame : frame + pairs.shape[3]]
    assert torch.equal(first, pairs[0])


def test_saved_picture_reads_back_bit_for_bit(tmp_path: Path) -> None:
    image = torch.randint(0, 256, (3, 7, 9), dtype=torch.uint8)
    save_picture(tmp_path / "a" / "b.png", image)
    with Image.open(tmp_path / "a" / "b.png") as file:
        pixels = torch.tensor(list(file.convert("RGB").tobytes()), dtype=torch.uint8)
    assert torch.equal(pixels.view(7, 9, 3).permute(2, 0, 1), image)
