"""YOLO: a text file an image beside `data.yaml`, as ultralytics, roboflow and others write it."""

from collections import defaultdict
from pathlib import Path

from regrow.data.checks.faults import Faults
from regrow.data.checks.remarks import Remarks
from regrow.data.formats.tools.shapes import Kind, Labelled, items_of
from regrow.data.formats.tools.yolo_files import Layout, label_places, read_layout
from regrow.data.formats.tools.yolo_rows import read_rows
from regrow.data.formats.unlisted import UNREAD
from regrow.data.images.opening import CorruptImage, image_size
from regrow.data.source import Content, Source, locate
from regrow.errors import BadInput
from regrow.files import is_there, name_below

BARE = "images without a label file: they count as background"
NO_LABELS = ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "autosplit_train.txt")


class Yolo(Source):
    """Images with boxes or polygons in YOLO's layout: `data.yaml`, `images/` and `labels/`.

    The text file of an image lies in `labels/` where the image lies in `images/`, or beside it. An
    image without one, or with an empty one, is background. Without `data.yaml` the classes are
    those of `classes.txt` (LabelImg, Label Studio) or `obj.names` (CVAT), a line each.

    Args:
        file: The file of the class names and splits, below the root; by default `data.yaml`, the
            only other YAML file with `names`, or `classes.txt`.
        kind: The labels to read: `boxes` (around polygons too), or `masks` of polygons, the
            smallest on top.
        background: The class of pixels in no polygon, for masks; null makes them void.
        group: Groups of images that a split keeps together, see `Source`.
    """

    def __init__(
        self,
        file: str | None = None,
        kind: Kind = "boxes",
        background: str | None = "background",
        group: str | None = None,
    ) -> None:
        super().__init__(group)
        self.file, self.kind, self.background = file, kind, background

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read all images that the file names, or those below the root."""
        root, remarks = locate(root), Remarks()
        layout = read_layout(root, self.file, faults, remarks)
        labels = self._find_labels(root, layout, faults, remarks)
        labelled = []
        for image, file in labels.items():
            where = str(file or image)
            with faults.row(where):
                size = _size(image)
                known = read_rows(file, layout.names, self.kind, size, faults) if file else []
                labelled.append(Labelled(image, known, layout.splits[image], None, where))
        if not labelled:
            faults.refuse()
            raise BadInput(f"{root}: no images in it; {layout.file.name} names none")
        classes = list(layout.names.values())
        names, items = items_of(labelled, self.kind, classes, self.background, root)
        return Content(self.kind, names, items, remarks)

    def _find_labels(
        self, root: Path, layout: Layout, faults: Faults, remarks: Remarks
    ) -> dict[Path, Path | None]:
        """Return the text file of each image, None where it has none."""
        found: dict[Path, Path | None] = {}
        images: dict[Path, list[Path]] = defaultdict(list)
        for image in layout.splits:
            places = label_places(root, image)
            file = next((place for place in places if is_there(place)), None)
            images[file or image].append(image)
            found[image] = file
            remarks.add(BARE, name_below(root, image), int(file is None))
        if found and not any(found.values()):
            image = next(iter(found))
            raise BadInput(
                f"{root}: none of its {len(found):,} images has a label file; that of {image} "
                f"would be {' or '.join(map(str, label_places(root, image)))}"
            )
        for file, own in images.items():
            for image in own if len(own) > 1 else []:
                other = next(one for one in own if one != image)
                faults.add(
                    f"{image}: its label file {file} is that of {other} too; give each a name of "
                    "its own",
                    str(image),
                )
                del found[image]
        for folder in sorted({file.parent for file in images if file.suffix == ".txt"}):
            for file in sorted(folder.glob("*.txt")):
                is_left = file not in images and file.name not in NO_LABELS
                remarks.add(UNREAD, name_below(root, file), int(is_left))
        return found


def _size(image: Path) -> tuple[int, int]:
    try:
        return image_size(image)
    except CorruptImage:  # for whoever decodes it to say, or to skip
        return 1, 1
