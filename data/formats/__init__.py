"""The formats of data sets that are read directly; each returns the items, and no pixels yet."""

from regrow.data.formats.coco import Coco
from regrow.data.formats.hugging_face import HuggingFace
from regrow.data.formats.image_folder import ImageFolder
from regrow.data.formats.label_format import LabelFormat
from regrow.data.formats.manifest import ManifestFile
from regrow.data.formats.masks import Masks
from regrow.data.formats.several import Part, Several
from regrow.data.formats.tools.label_studio import LabelStudio
from regrow.data.formats.tools.labelme import LabelMe
from regrow.data.formats.tools.yolo import Yolo
from regrow.data.formats.torchvision import Torchvision
from regrow.data.formats.voc import Voc

__all__ = [
    "Coco",
    "HuggingFace",
    "ImageFolder",
    "LabelFormat",
    "LabelMe",
    "LabelStudio",
    "ManifestFile",
    "Masks",
    "Part",
    "Several",
    "Torchvision",
    "Voc",
    "Yolo",
]
