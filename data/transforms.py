"""Decoding, resizing, and augmentation whose randomness is a function of counters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from regrow.data.errors import BadInput


def decode(image: Path | np.ndarray) -> np.ndarray:
    """Give the pixels of an image, uint8 RGB (h, w, 3).

    Raises:
        BadInput: If the file is missing, truncated or no image.
    """
    if isinstance(image, np.ndarray):
        return image
    try:
        with Image.open(image) as opened:
            return np.asarray(opened.convert("RGB"))
    except FileNotFoundError as error:
        raise BadInput(f"{image}: no such image") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise BadInput(
            f"{image}: corrupt or truncated ({error}); replace it, or set data.skip_corrupt=true"
        ) from error


def decode_mask(mask: Path | np.ndarray) -> np.ndarray:
    """Give the numbers of a mask, uint8 (h, w); a palette's indices are the numbers.

    Raises:
        BadInput: If the file is missing, truncated, or has more than one channel.
    """
    if isinstance(mask, np.ndarray):
        return mask
    try:
        with Image.open(mask) as opened:
            pixels = np.asarray(opened)
    except (OSError, ValueError, SyntaxError) as error:
        raise BadInput(f"{mask}: corrupt, truncated or missing mask ({error})") from error
    if pixels.ndim != 2 or not np.issubdtype(pixels.dtype, np.integer):
        raise BadInput(
            f"{mask}: a mask has one channel of class numbers, this has {pixels.shape} "
            f"{pixels.dtype}; save it as 8-bit grey or with a palette"
        )
    return pixels


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an image, uint8 (3, h, w), smoothly."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.resize(image, list(size), antialias=True)


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a mask, uint8 (h, w), taking the nearest pixel."""
    if tuple(mask.shape) == tuple(size):
        return mask
    nearest = v2.InterpolationMode.NEAREST
    return F.resize(mask[None], list(size), interpolation=nearest)[0]


def augmented(
    image: Tensor, target: Any, transforms: Sequence[v2.Transform], seed: int
) -> tuple[Tensor, Any]:
    """Transform an image and its target at random, as a function of the seed alone.

    Args:
        image: uint8 (3, h, w).
        target: A label (), boxes and labels, or a mask (h, w).
        transforms: What is applied, in order.
        seed: What their randomness is a function of; the process's own stream is put back.

    Returns:
        Both, the image in its old size.
    """
    size = (int(image.shape[-2]), int(image.shape[-1]))
    wrapped: tuple[Any, ...] = (tv_tensors.Image(image), *_wrapped(target, size))
    generator = torch.default_generator
    state = generator.get_state()
    try:
        generator.manual_seed(seed)
        for transform in transforms:
            wrapped = transform(*wrapped)
            if not isinstance(wrapped, tuple):
                wrapped = (wrapped,)
    finally:
        generator.set_state(state)
    image = wrapped[0].as_subclass(Tensor)
    if tuple(image.shape[-2:]) != size:
        raise BadInput(
            f"data.augment gives images of {tuple(image.shape[-2:])}, data.size is {size}; "
            "end with a transform that gives this size"
        )
    return image, _unwrapped(wrapped[1:], target)


def _wrapped(target: Any, size: tuple[int, int]) -> tuple[Any, ...]:
    if isinstance(target, dict):
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=size)
        return boxes, target["labels"]
    if target.ndim == 2:
        return (tv_tensors.Mask(target),)
    return ()


def _unwrapped(parts: tuple[Any, ...], target: Any) -> Any:
    if isinstance(target, dict):
        boxes = parts[0].as_subclass(Tensor)
        keep = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
        return {"boxes": boxes[keep], "labels": parts[1][keep]}
    if target.ndim == 2:
        return parts[0].as_subclass(Tensor)
    return target
