"""Formats that `labelformat` reads, such as CVAT's XML, KITTI's text and Labelbox's JSON.

Source: https://github.com/lightly-ai/labelformat (MIT), checked on version 0.1.17.
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from regrow.data.checks.faults import Faults, described, shown
from regrow.data.checks.remarks import Remarks
from regrow.data.formats.unlisted import count_unlisted
from regrow.data.names.listing import split_by_folder
from regrow.data.names.lookup import match_files
from regrow.data.names.tidy import declared_size
from regrow.data.source import Content, Source, locate
from regrow.data.targets.labels import Boxes, Declared, Item
from regrow.errors import BadInput
from regrow.files import name_below

INPUT = "ObjectDetectionInput"  # how the library's classes end that read boxes


class LabelFormat(Source):
    """Images with boxes in a format of the library `labelformat`.

    It needs `pip install "regrow[formats]"`. The library reads the files itself and takes them as
    they are: use it for files whose source you trust.

    Args:
        format: The format, as `cvat`, `kitti`, `labelbox` or `lightly`.
        arguments: What the library's class for it takes, such as `input_file` or `input_folder`,
            which lie below the root, and `category_names`.
        images: The folder of the images, below the root.
        group: Groups of images that a split keeps together, see `Source`.
    """

    def __init__(
        self,
        format: str,
        arguments: dict[str, Any] | None = None,
        images: str = "images",
        group: str | None = None,
    ) -> None:
        super().__init__(group)
        self.format, self.arguments, self.images = format, dict(arguments or {}), images

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read the boxes of all images that the library finds labels of."""
        root, remarks = locate(root), Remarks()
        own = _input_class(self.format)
        arguments = _arguments(own, self.arguments, root)
        where = f"{root}, read as {self.format} by labelformat"
        try:
            reader = own(**arguments)
            classes = [str(category.name) for category in reader.get_categories()]
            entries = {
                f"{where}: image {number} ({shown(entry.image.filename)})": entry
                for number, entry in enumerate(reader.get_labels(), 1)
            }
        except Exception as error:  # whatever the library says of files that are none of these
            raise BadInput(f"{where}: {described(error)}; correct the files") from error
        folder = root / self.images
        named = {where: entry.image.filename for where, entry in entries.items()}
        files = match_files(named, [folder, root], faults)
        items = [*_items(entries, files, root, faults)]
        if not items:
            faults.refuse()
            raise BadInput(f"{where}: no images with labels; check data.source.arguments")
        count_unlisted(folder, {*files.values()}, remarks, root)
        return Content("boxes", list(dict.fromkeys(classes)), items, remarks)


def _items(
    entries: Mapping[str, Any], files: Mapping[str, Path], root: Path, faults: Faults
) -> Iterator[Item]:
    for where, file in files.items():
        with faults.row(where):
            entry = entries[where]
            sides = [(o.box.xmin, o.box.ymin, o.box.xmax, o.box.ymax) for o in entry.objects]
            corners = np.array(sides, dtype=np.float32).reshape(-1, 4)
            boxes = Boxes(corners, tuple(str(o.category.name) for o in entry.objects))
            said = {"width": entry.image.width, "height": entry.image.height}
            size: Declared | None = declared_size(said)
            name, split = name_below(root, file), split_by_folder(root, file)
            yield Item(name, file, boxes, split, None, None, size, where)


def _input_class(name: str) -> Any:
    """Return the library's class that reads a format.

    Raises:
        BadInput: If the library is not installed, or has no such format.
    """
    try:
        library = import_module("labelformat.formats")
    except ImportError as error:
        raise BadInput(
            f"data.source.format {name} is read by labelformat, which is not installed; "
            'pip install "regrow[formats]"'
        ) from error
    known = {own.removesuffix(INPUT).lower(): own for own in dir(library) if own.endswith(INPUT)}
    wanted = name.lower().replace("-", "")
    if wanted not in known:
        raise BadInput(f"data.source.format is {shown(name)}; labelformat has {', '.join(known)}")
    return getattr(library, known[wanted])


def _arguments(own: Any, given: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return arguments as the library's class takes them: paths below the root, and its enums.

    Raises:
        BadInput: If it takes others.
    """
    taken, hints = signature(own.__init__).parameters, get_type_hints(own.__init__)
    names = [name for name in taken if name not in ("self", "args", "kwargs")]
    needed = [name for name in names if taken[name].default is taken[name].empty]
    if not {*needed} <= {*given} <= {*names}:
        raise BadInput(
            f"data.source.arguments has {', '.join(given) or 'nothing'}; {own.__name__} takes "
            f"{', '.join(names)} and needs {', '.join(needed)}"
        )
    values: dict[str, Any] = {}
    for name, value in given.items():
        hint = hints.get(name)
        try:
            if "Path" in str(hint):
                value = root / str(value)
            elif isinstance(hint, type) and issubclass(hint, Enum):
                value = hint(value)
        except ValueError as error:
            raise BadInput(f"data.source.arguments.{name} is {shown(value)}: {error}") from error
        values[name] = value
    return values
