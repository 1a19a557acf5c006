"""The paths that stand in files."""

from regrow.class_path import class_path, with_stable_paths
from regrow.data.formats import ImageFolder, Yolo
from regrow.data.module import GrowingData


def test_a_class_is_named_by_the_room_that_exports_it() -> None:
    assert class_path(ImageFolder) == "regrow.data.formats.ImageFolder"
    assert class_path(GrowingData) == "regrow.data.module.GrowingData"


def test_a_class_in_a_room_within_a_room_is_named_by_the_outer_one() -> None:
    assert Yolo.__module__ == "regrow.data.formats.tools.yolo"
    assert class_path(Yolo) == "regrow.data.formats.Yolo"
    written = {"source": [{"class_path": "regrow.data.formats.tools.yolo.Yolo", "init_args": {}}]}
    wanted = {"source": [{"class_path": "regrow.data.formats.Yolo", "init_args": {}}]}
    assert with_stable_paths(written) == wanted
