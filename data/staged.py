"""A data set that arrives in two stages, for experiments with data that grows or drifts."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageFilter

from regrow.data.checks.faults import Faults
from regrow.data.images.conversion import Decoding
from regrow.data.images.decoding import Derived, decode, decode_mask
from regrow.data.source import Content, Source, some_items
from regrow.data.splits import split_of
from regrow.data.targets.labels import Item, Mask, Target, shown_classes, without
from regrow.errors import BadInput

Stage = Literal["before", "after"]
Corruption = Literal["dusk", "noise", "blur"]
Corrupt = Callable[[np.ndarray, int], np.ndarray]


class Staged(Source):
    """Another source in two stages, for data that grows: `before` has a part, `after` has all.

    Late are the images of late classes, those whose names match a pattern, and a share of the
    others, which is a function of their names. Whole groups are late together.

    Args:
        source: The other source.
        stage: Which of the two.
        late_classes: Classes that come late.
        late_names: A pattern; images whose names match it come late.
        late_share: Share of the other images that come late, in [0, 1).
        unlabelled: Images of late classes are there from the beginning, without the late labels:
            no boxes, void in masks.
        corruption: What has happened to late images: `dusk` (dark, of little contrast, warm, and
            noisy), `noise`, or `blur`; null leaves them as they are.
        severity: How much of it, 1 to 5.
        max_images: Take so many images of each split of the source at most, drawn at random, the
            same ones for both stages; null takes all.

    Raises:
        BadInput: If a value is out of range, or the pattern is none.
    """

    is_tidy = True

    def __init__(
        self,
        source: Source,
        stage: Stage = "after",
        late_classes: list[str] | None = None,
        late_names: str | None = None,
        late_share: float = 0.0,
        unlabelled: bool = False,
        corruption: Corruption | None = None,
        severity: int = 3,
        max_images: int | None = None,
    ) -> None:
        if not 0 <= late_share < 1:
            raise BadInput(f"data.source.late_share is {late_share}, it must lie in [0, 1)")
        if not 1 <= severity <= 5:
            raise BadInput(f"data.source.severity is {severity}, it must be 1 to 5")
        try:
            self.late_names = re.compile(late_names) if late_names else None
        except re.error as error:
            raise BadInput(
                f"data.source.late_names {late_names!r} is not a pattern: {error}"
            ) from error
        self.source, self.stage, self.late_share = source, stage, late_share
        self.late_classes, self.unlabelled = list(late_classes or []), unlabelled
        self.corruption, self.severity, self.max_images = corruption, severity, max_images

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read the other source, and return the images of the stage.

        Raises:
            BadInput: If the source does not have a late class, or nothing is left.
        """
        content = self.source.gather(root, faults)
        strangers = [name for name in self.late_classes if name not in content.classes]
        if strangers:
            raise BadInput(
                f"data.source.late_classes names {', '.join(strangers)}; the classes are "
                f"{', '.join(content.classes)}"
            )
        items = []
        for item in some_items(content.items, self.max_images):
            if self.stage == "before" and not self._is_late(item):
                # Nobody has labelled the late classes yet.
                target = without(item.target, self.late_classes)
                items.append(item if target is None else replace(item, target=target))
            elif self.stage == "after":
                items.append(self._corrupted(item) if self._is_late(item) else item)
        if not items:
            raise BadInput("data.source: all images are late, so there are none before")
        classes = [
            name
            for name in content.classes
            if self.stage == "after" or name not in self.late_classes
        ]
        return Content(content.kind, classes, items, content.remarks)

    def _is_late(self, item: Item) -> bool:
        if self.late_names is not None and self.late_names.search(item.name):
            return True
        if not self.unlabelled and self.late_classes and self._shows_late(item.target):
            return True
        key = (item.group or item.name).encode("utf-8", "surrogatepass")
        return split_of(b"late" + key, self.late_share, 0.0) == "val"

    def _shows_late(self, target: Target) -> bool:
        numbers: list[int] = []
        if isinstance(target, Mask):
            numbers = np.unique(decode_mask(target.pixels)).tolist()
        return bool(shown_classes(target, numbers) & set(self.late_classes))

    def _corrupted(self, item: Item) -> Item:
        if self.corruption is None:
            return item
        seen = _Seen(item.image, CORRUPTIONS[self.corruption], self.severity)
        return replace(item, image=seen)


@dataclass(frozen=True, slots=True)
class _Seen(Derived):
    """An image as it is seen under a corruption."""

    image: Any
    corrupt: Corrupt
    severity: int

    def __call__(self, decoding: Decoding = Decoding()) -> np.ndarray:
        return self.corrupt(decode(self.image, decoding), self.severity)


def dusk(pixels: np.ndarray, severity: int) -> np.ndarray:
    """Return an image as a camera sees it when the sun has set.

    Args:
        pixels: Colours, uint8 (h, w, 3).
        severity: 1 to 5.
    """
    light = 1 - 0.15 * severity
    colours = pixels.astype(np.float32) * light * np.array([1.0, 0.92, 0.8], dtype=np.float32)
    return _noisy(colours, 3.0 * severity, pixels)


def noise(pixels: np.ndarray, severity: int) -> np.ndarray:
    """Return an image with the noise of a sensor."""
    return _noisy(pixels.astype(np.float32), 8.0 * severity, pixels)


def blur(pixels: np.ndarray, severity: int) -> np.ndarray:
    """Return an image that is out of focus, by a share of its shorter side."""
    radius = 0.006 * severity * min(pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


CORRUPTIONS: dict[Corruption, Corrupt] = {"dusk": dusk, "noise": noise, "blur": blur}


def _noisy(colours: np.ndarray, deviation: float, pixels: np.ndarray) -> np.ndarray:
    # The noise of an image is a function of its pixels: it is the same at every reading.
    seed = int.from_bytes(np.ascontiguousarray(pixels).tobytes()[:4096:7], "little") % 2**63
    drawn = np.random.default_rng(seed).normal(0.0, deviation, pixels.shape)
    return (colours + drawn).round().clip(0, 255).astype(np.uint8)
