"""Pictures of predictions beside the ground truth."""

import colorsys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks, make_grid

from regrow.data.targets.ignored import IGNORED_BOXES, IGNORED_LABELS, IS_CROWD
from regrow.data.targets.labels import VOID, Kind
from regrow.files import write_atomic
from regrow.text import plural, printable

CELL = 200  # pixels: least length of the longer side of an image; smaller ones are enlarged
LONGEST = 60  # characters of a class's name in a picture
CAPTION = 16  # height of the line of text below an image
MIN_SCORE = 0.4  # boxes of lower scores are not drawn
MOST_NAMED = 8  # boxes that have their names in them; more would hide the image
BACKGROUND = "background"  # the class of masks that is not drawn
RIGHT, WRONG, TRUTH = (110, 220, 130), (255, 110, 100), (235, 235, 235)
IGNORED = (150, 150, 150)  # colour of ignored boxes


def draw(
    images: Tensor, predictions: Any, targets: Any, classes: Sequence[str], kind: Kind
) -> Tensor:
    """Draw each image twice: the ground truth on the left, the prediction on the right.

    Args:
        images: uint8, (b, 3, h, w).
        predictions: Predictions, as `Task.predict` returns them.
        targets: Targets of the batch.
        classes: Class names in row order.
        kind: Kind of targets: `labels`, `boxes` or `masks`.

    Returns:
        uint8, (b, 3, h', w'); small images are enlarged by a whole factor.
    """
    scale = max(1, CELL // max(images.shape[-2:]))
    images = images.detach().cpu().repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    pairs = [
        DRAWERS[kind](image, _at(predictions, index), _at(targets, index), classes, scale)
        for index, image in enumerate(images)
    ]
    return torch.stack(pairs)


def picture(
    images: Tensor, predictions: Any, targets: Any, classes: Sequence[str], kind: Kind
) -> Tensor:
    """Draw the pairs of `draw` as one image with a legend, uint8, (3, h, w)."""
    pairs = draw(images, predictions, targets, classes, kind)
    columns = max(1, min(len(pairs), 1280 // pairs.shape[-1]))
    grid = make_grid(pairs, nrow=columns, padding=4, pad_value=255)
    return (
        grid
        if kind == "labels"
        else torch.cat([grid, _legend(classes, kind, grid.shape[-1])], dim=1)
    )


def save_picture(path: Path, image: Tensor) -> None:
    """Write an image, uint8 (3, h, w), as a PNG file, atomically."""
    write_atomic(path, lambda file: to_pil_image(image).save(file, "PNG"))


def color(index: int) -> tuple[int, int, int]:
    """Return the colour of a class: red, green and blue, 0 to 255.

    Hues are a golden section apart, so that neighbouring classes differ.
    """
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.85 - 0.3 * (index % 2), 1)
    return round(255 * red), round(255 * green), round(255 * blue)


def _draw_label(
    image: Tensor, prediction: Tensor, target: Tensor, classes: Sequence[str], scale: int
) -> Tensor:
    score, label = prediction.float().max(-1)
    is_right = int(label) == int(target)
    guess = f"{classes[int(label)]} {float(score):.2f}"
    return _beside(
        _captioned(image, classes[int(target)], TRUTH),
        _captioned(image, guess, RIGHT if is_right else WRONG),
    )


def _draw_boxes(
    image: Tensor,
    prediction: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    classes: Sequence[str],
    scale: int,
) -> Tensor:
    found = prediction["scores"] >= MIN_SCORE
    boxes, labels = prediction["boxes"][found], prediction["labels"][found]
    scores = [f"{score:.2f}" for score in prediction["scores"][found].tolist()]
    caption, truth = f"truth: {plural(len(target['labels']), 'object')}", image
    if IGNORED_BOXES in target:
        marks = ["crowd" if is_crowd else "difficult" for is_crowd in target[IS_CROWD].tolist()]
        ignored, labels_of = target[IGNORED_BOXES] * scale, target[IGNORED_LABELS]
        truth = _boxed(truth, ignored, labels_of, classes, marks, is_ignored=True)
        caption += f", {len(marks)} ignored" if marks else ""
    truth = _boxed(truth, target["boxes"] * scale, target["labels"], classes)
    return _beside(
        _captioned(truth, caption, TRUTH),
        _captioned(
            _boxed(image, boxes * scale, labels, classes, scores),
            f"predicted: {plural(len(labels), 'object')}",
            TRUTH,
        ),
    )


def _boxed(
    image: Tensor,
    boxes: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    notes: Sequence[str] | None = None,
    is_ignored: bool = False,
) -> Tensor:
    boxes, indices = boxes.detach().float().cpu(), labels.tolist()
    drawable = torch.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    rows = drawable.nonzero().flatten().tolist()
    if not rows:
        return image
    names = [printable(classes[indices[row]], LONGEST) for row in rows]
    texts = [
        f"{n} {notes[row] if notes else ''}".strip() for n, row in zip(names, rows, strict=True)
    ]
    if len(rows) > MOST_NAMED:
        texts = [""] * len(rows)  # the legend tells their colours
    colors = [IGNORED if is_ignored else color(indices[row]) for row in rows]
    width = 1 if is_ignored else 2
    drawn: Tensor = draw_bounding_boxes(
        image, boxes[rows], labels=texts, colors=colors, width=width, fill_labels=True
    )
    return drawn


def _draw_mask(
    image: Tensor, prediction: Tensor, target: Tensor, classes: Sequence[str], scale: int
) -> Tensor:
    return _beside(
        _captioned(_overlaid(image, target, classes, scale), "truth", TRUTH),
        _captioned(_overlaid(image, prediction, classes, scale), "predicted", TRUTH),
    )


def _overlaid(image: Tensor, mask: Tensor, classes: Sequence[str], scale: int) -> Tensor:
    mask = mask.detach().cpu().repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    indices = [index for index in mask.unique().tolist() if index in _drawn(classes)]
    if not indices:
        return image
    layers = torch.stack([mask == index for index in indices])
    colors = [color(index) for index in indices]
    overlaid: Tensor = draw_segmentation_masks(image, layers, alpha=0.5, colors=colors)
    return overlaid


def _drawn(classes: Sequence[str]) -> list[int]:
    """Return the rows of the classes that have a colour in masks."""
    return [row for row, name in enumerate(classes) if name != BACKGROUND and row != VOID]


# The drawing function of each kind of target.
DRAWERS: dict[Kind, Callable[..., Tensor]] = {
    "labels": _draw_label,
    "boxes": _draw_boxes,
    "masks": _draw_mask,
}


def _at(batch: Any, index: int) -> Any:
    entry = batch[index]
    if isinstance(entry, Mapping):
        return {name: value.detach().cpu() for name, value in entry.items()}
    return entry.detach().cpu()


def _beside(left: Tensor, right: Tensor) -> Tensor:
    gap = torch.full((3, left.shape[1], 2), 128, dtype=torch.uint8)
    return torch.cat([left, gap, right], dim=2)


def _captioned(image: Tensor, text: str, fill: tuple[int, int, int]) -> Tensor:
    strip = Image.new("RGB", (image.shape[2], CAPTION))
    ImageDraw.Draw(strip).text(
        (2, 2), printable(text, LONGEST), fill=fill, font=ImageFont.load_default()
    )
    return torch.cat([image, pil_to_tensor(strip)], dim=1)


def _legend(classes: Sequence[str], kind: Kind, width: int) -> Tensor:
    font = ImageFont.load_default()
    places, x, y = [], 4, 3
    rows = _drawn(classes) if kind == "masks" else list(range(len(classes)))
    names = [printable(classes[row], LONGEST) for row in rows]
    for name in names:
        length = int(font.getlength(name)) + 24
        if x + length > width and x > 4:
            x, y = 4, y + CAPTION
        places.append((x, y))
        x += length
    strip = Image.new("RGB", (width, y + CAPTION))
    brush = ImageDraw.Draw(strip)
    for row, name, (x, y) in zip(rows, names, places, strict=True):
        brush.rectangle((x, y, x + 10, y + 10), fill=color(row))
        brush.text((x + 14, y), name, fill=TRUTH, font=font)
    pixels: Tensor = pil_to_tensor(strip)
    return pixels
