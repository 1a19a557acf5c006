"""Conversion of opened image files to 8-bit colours; what is lost is noted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from regrow.data.checks.remarks import Remarks
from regrow.data.images.opening import MAX_PIXELS
from regrow.errors import BadInput

# What a conversion left out, with numbers that describe it: of `DEEP` the least and the largest
# value in the file, and both as they are read; of `DEEP_COLOUR` the latter alone; else none.
Facts = Mapping[str, Sequence[int]]
DEEP, DEEP_COLOUR, ALPHA, CMYK, FRAMES, WARNED = (
    "deep",
    "deep colour",
    "alpha",
    "cmyk",
    "frames",
    "warned",
)
NUM_NUMBERS = {DEEP: 4, DEEP_COLOUR: 2, ALPHA: 0, CMYK: 0, FRAMES: 0, WARNED: 0}
KINDS = {
    ALPHA: "images with transparent pixels, read without their transparency",
    CMYK: "images in CMYK, read as RGB without a colour profile",
    FRAMES: "images of several frames or pages, of which the first is read",
    WARNED: "images that Pillow warns of, and may not read in full",
}


@dataclass(frozen=True, slots=True)
class Decoding:
    """How image files become pixels.

    Args:
        max_pixels: An image of more pixels is refused before it is decoded.
        grey_range: The values of 16-bit grey images that become 0 and 255; those outside are
            clipped. None is 0 and 65535.
    """

    max_pixels: int = MAX_PIXELS
    grey_range: tuple[int, int] | None = None


def converted(
    opened: Image.Image, path: Path | str, decoding: Decoding
) -> tuple[np.ndarray, Facts]:
    """Convert an image to colours, in the same way whatever its own values are.

    Args:
        opened: The image, as `open_image` returned it.
        path: Its file, or what else errors call it.
        decoding: How files become pixels.

    Returns:
        The pixels, uint8 RGB (h, w, 3), and what they leave out.

    Raises:
        BadInput: If it holds numbers that are no colours.
    """
    facts: dict[str, Sequence[int]] = {}
    if opened.info["is_animated"]:
        facts[FRAMES] = ()
    if opened.info["warnings"]:
        facts[WARNED] = ()
    # Neither PNG nor PGM has more than 16 bits, whatever Pillow calls them.
    if opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format in ("PNG", "PPM")):
        values = np.asarray(opened).astype(np.uint16)
        own = _in_file(values, opened.info["max_value"])
        grey = (values >> 8).astype(np.uint8)
        if decoding.grey_range is not None:
            grey = _scaled(own, decoding.grey_range)
        ends = [own.min(), own.max(), grey.min(), grey.max()]
        return np.repeat(grey[..., None], 3, axis=2), {**facts, DEEP: [int(end) for end in ends]}
    if opened.mode in ("I", "F"):
        raise BadInput(
            f"{path}: its pixels are signed or 32-bit numbers, not colours; save it with 8 or 16 "
            "bits without a sign"
        )
    if opened.mode == "CMYK":
        facts[CMYK] = ()
    is_deep = opened.info["depth"] > 8
    if "transparency" in opened.info:  # of a palette, which Pillow warns of on the way to RGB
        opened = opened.convert("RGBA")
    if "A" in opened.getbands() and np.asarray(opened.getchannel("A")).min() < 255:
        facts[ALPHA] = ()
    pixels = np.asarray(opened.convert("RGB"))
    if is_deep:
        facts[DEEP_COLOUR] = [int(pixels.min()), int(pixels.max())]
    return pixels, facts


def _in_file(values: np.ndarray, max_value: int) -> np.ndarray:
    """Return values as a file has them, whose largest possible one Pillow makes 65535."""
    return values if max_value == 65535 else (values.astype(np.int64) * max_value + 32767) // 65535


def _scaled(values: np.ndarray, ends: tuple[int, int]) -> np.ndarray:
    """Scale values so that 256 steps of equal width lie between the ends; 0 and 65535 are >> 8."""
    low, high = ends
    steps = (values.astype(np.int64).clip(low, high) - low) * 256 // (high - low + 1)
    return steps.astype(np.uint8)


def remark_conversions(
    names: Sequence[str], facts: Sequence[Facts], decoding: Decoding, remarks: Remarks
) -> None:
    """Count the images of which a part was left out when they became 8-bit colours.

    Args:
        names: The names of the images.
        facts: What `converted` said of each.
        decoding: How files became pixels.
        remarks: What the counts are added to.
    """
    pairs = list(zip(names, facts, strict=True))
    for kind, words in KINDS.items():
        for name, own in pairs:
            remarks.add(words, name, int(kind in own))
    _remark_deep([(name, own[DEEP]) for name, own in pairs if DEEP in own], decoding, remarks)
    colour = [(name, own[DEEP_COLOUR]) for name, own in pairs if DEEP_COLOUR in own]
    if colour:
        levels = max(ends[1] for _, ends in colour) - min(ends[0] for _, ends in colour) + 1
        words = f"16-bit colour images, of which the upper 8 bits are read: {levels} of 256 levels"
        for name, _ in colour:
            remarks.add(words, name)


def _remark_deep(
    deep: Sequence[tuple[str, Sequence[int]]], decoding: Decoding, remarks: Remarks
) -> None:
    if not deep:
        return
    least, largest = min(own[0] for _, own in deep), max(own[1] for _, own in deep)
    levels = max(own[3] for _, own in deep) - min(own[2] for _, own in deep) + 1
    words = f"16-bit grey images, whose values {least} to {largest} become {levels} of 256 levels"
    if decoding.grey_range is None and levels < 256 and least < largest:
        words += f" (data.grey_range [{least}, {largest}] would spread them over all)"
    for name, own in deep:
        remarks.add(words, name)
        if decoding.grey_range is not None:
            low, high = decoding.grey_range
            clipped = f"images with values outside data.grey_range [{low}, {high}], clipped"
            remarks.add(clipped, name, int(own[0] < low or own[1] > high))
