"""Image folders: one folder a class."""

from pathlib import Path

from regrow.data.checks.faults import Faults
from regrow.data.checks.remarks import Remarks
from regrow.data.names.listing import list_folders, list_images
from regrow.data.names.tidy import clean_name
from regrow.data.source import Content, Source, locate
from regrow.data.targets.labels import Item
from regrow.errors import BadInput
from regrow.files import SPLIT_NAMES, name_below


class ImageFolder(Source):
    """One folder a class, as torchvision lays them out, perhaps below one folder a split.

    Args:
        group: Groups of images that a split keeps together, see `Source`.
    """

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read `<class>/*.jpg` or `{train,val,test}/<class>/*.jpg`."""
        root, remarks = locate(root), Remarks()
        folders = list_folders(root)
        splits = {f: SPLIT_NAMES[f.name.lower()] for f in folders if f.name.lower() in SPLIT_NAMES}
        beside = [f.name for f in folders if f not in splits and list_images(f)] if splits else []
        if beside:
            raise BadInput(
                f"{root}: holds splits ({', '.join(f.name for f in splits)}) beside other folders "
                f"of images ({', '.join(beside)}); put each class below a split, or rename"
            )
        items, classes = [], set()
        tops: dict[Path, str | None] = {**splits} if splits else {root: None}
        for top, split in tops.items():
            inside = list_folders(top, remarks)
            for folder in inside:
                files = list_images(folder, remarks, counts_others=True)
                if not files:
                    remarks.add("folders without images, taken for no class", folder.name)
                    continue
                classes.add(folder.name)
                items += [
                    Item(str(file.relative_to(root)), file, folder.name, split) for file in files
                ]
            bare = [file for file in list_images(top) if file.parent == top] if inside else []
            for file in bare:
                remarks.add("images left out that lie in no class's folder", name_below(root, file))
        if not items:
            raise BadInput(f"{root}: no images in it; expected {root}/<class>/<image>.jpg")
        return Content("labels", sorted(classes, key=clean_name), items, remarks)
