"""Resizing, and augmentation whose randomness is a function of counters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from regrow.data.targets.ignored import IGNORED_BOXES, separated, together
from regrow.data.targets.labels import VOID
from regrow.errors import BadInput

# Transforms fill what they uncover of a mask with a colour of the image, or 0, which is a class.
# Class numbers are lifted out of the range of colours meanwhile.
LIFT = 1000
LIFT_MARK = 1 << 32  # by which the labels of ignored boxes are lifted out of the range of labels
MIN_SIDE = 1.0  # pixels; a smaller box shows nothing of its object


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images, uint8 (..., 3, h, w), smoothly and antialiased."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    resized: Tensor = F.resize(images, list(size), antialias=True)
    return resized


def small_image(pixels: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Resize the pixels of an image as networks see it: uint8 (h, w, 3) to (3, *size)."""
    return resize(torch.from_numpy(np.array(pixels)).permute(2, 0, 1), size)


def resize_mask(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize masks, whole numbers (..., h, w), taking the pixel whose centre is nearest."""
    if tuple(masks.shape[-2:]) == tuple(size):
        return masks
    nearest = v2.InterpolationMode.NEAREST_EXACT
    resized: Tensor = F.resize(masks[..., None, :, :], list(size), interpolation=nearest)
    return resized[..., 0, :, :]


def small_mask(numbers: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize the numbers of a mask's file, (h, w); see `resize_mask`."""
    whole = numbers.astype(np.uint8 if numbers.dtype == np.uint8 else np.int32)
    return resize_mask(torch.from_numpy(whole), size).numpy()


def augmented(
    image: Tensor, target: Any, transforms: Sequence[v2.Transform], seed: int
) -> tuple[Tensor, Any]:
    """Transform an image and its target at random, as a function of the seed alone.

    Args:
        image: uint8 (3, h, w).
        target: A label (); `boxes` (n, 4), xyxy pixels, and `labels` (n,), perhaps with ignored
            boxes beside them; or a mask, uint8 (h, w).
        transforms: What is applied, in order.
        seed: What their randomness is a function of; the process's own stream is put back.

    Returns:
        Both, in the old size. Boxes end at the image's edge, and those of which less than a pixel
        is left are gone; what a mask did not cover is void.

    Raises:
        BadInput: If the image has another size or type afterwards.
    """
    size = (int(image.shape[-2]), int(image.shape[-1]))
    sample = _wrapped(image, target, size)
    generator = torch.default_generator
    state = generator.get_state()
    try:
        generator.manual_seed(seed)
        for transform in transforms:
            given = transform(*sample)
            sample = given if isinstance(given, tuple) else (given,)
    finally:
        generator.set_state(state)
    image = sample[0].as_subclass(Tensor)
    if tuple(image.shape[-2:]) != size or image.dtype != torch.uint8:
        raise BadInput(
            f"data.augment gives {image.dtype} images of {list(image.shape[-2:])}, but they must "
            f"stay uint8 of data.size {list(size)}; leave out what changes them"
        )
    return image, _unwrapped(sample[1:], target, size)


def _wrapped(image: Tensor, target: Any, size: tuple[int, int]) -> tuple[Any, ...]:
    """Return a sample whose parts transforms know; an image alone is left a tensor, for speed."""
    if isinstance(target, dict):
        corners, labels, marks = together(target)
        boxes = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=size)
        # A transform that leaves a box out does so with its label, hence with its mark.
        return (tv_tensors.Image(image), {"boxes": boxes, "labels": labels + marks * LIFT_MARK})
    if target.ndim == 2:
        lifted = torch.where(target == VOID, 0, target.int() + LIFT)
        return (tv_tensors.Image(image), tv_tensors.Mask(lifted))
    return (image,)


def _unwrapped(parts: tuple[Any, ...], target: Any, size: tuple[int, int]) -> Any:
    if isinstance(target, dict):
        boxes = parts[0]["boxes"].as_subclass(Tensor)
        limits = torch.tensor([size[1], size[0], size[1], size[0]], dtype=boxes.dtype)
        boxes = torch.minimum(boxes.clamp(min=0), limits)
        keep = ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE).all(1)
        labels = parts[0]["labels"].as_subclass(Tensor)[keep]
        if IGNORED_BOXES not in target:
            return {"boxes": boxes[keep], "labels": labels}
        return separated(boxes[keep], labels % LIFT_MARK, labels // LIFT_MARK)
    if target.ndim == 2:
        lifted = parts[0].as_subclass(Tensor)
        return torch.where(lifted >= LIFT, lifted - LIFT, VOID).to(torch.uint8)
    return target
