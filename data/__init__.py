"""Data: labelled images, the formats they are read from, splits, transforms and loaders."""

from typing import TYPE_CHECKING

from regrow.lazy import lazy

if TYPE_CHECKING:
    from regrow.data.config import data_beside
    from regrow.data.formats import (
        Coco,
        HuggingFace,
        ImageFolder,
        LabelFormat,
        LabelMe,
        LabelStudio,
        ManifestFile,
        Masks,
        Part,
        Several,
        Torchvision,
        Voc,
        Yolo,
    )
    from regrow.data.module import GrowingData
    from regrow.data.sample import Digits, DigitScenes
    from regrow.data.snapshot import Manifest, Snapshot
    from regrow.data.source import Content, Source
    from regrow.data.staged import Staged
    from regrow.data.stored import Stored
    from regrow.data.targets.labels import Boxes, Item, Mask
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "Boxes",
    "Coco",
    "Content",
    "DigitScenes",
    "Digits",
    "GrowingData",
    "HuggingFace",
    "ImageFolder",
    "Item",
    "LabelFormat",
    "LabelMe",
    "LabelStudio",
    "Manifest",
    "ManifestFile",
    "Mask",
    "Masks",
    "Part",
    "Several",
    "Snapshot",
    "Source",
    "Staged",
    "Stored",
    "Torchvision",
    "Voc",
    "Yolo",
    "data_beside",
]
