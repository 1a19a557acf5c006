"""Pascal VOC's annotations."""

from pathlib import Path

import pytest

from layouts import picture, write
from regrow.data.formats import Voc
from regrow.errors import BadInput

VOC = """<annotation><filename>a.png</filename><size><width>8</width></size>
<object><name>dog</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>8</xmax><ymax>5.5</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>
<object><name>cat</name><bndbox><ymin>0</ymin><xmin>0</xmin><xmax>4</xmax><ymax>3</ymax></bndbox>
</object></annotation>"""


def test_voc_counts_pixels_from_one(tmp_path: Path) -> None:
    write(tmp_path / "Annotations" / "a.xml", VOC)
    write(tmp_path / "Annotations" / "b.xml", "<annotation></annotation>")
    for name in ("a.png", "b.jpg"):
        picture(tmp_path / "JPEGImages" / name)
    content = Voc().read(tmp_path)
    assert (content.kind, content.classes) == ("boxes", ["cat", "dog"])
    first, second = content.items
    assert first.image == tmp_path / "JPEGImages" / "a.png"
    assert first.name == "JPEGImages/a.png"
    # The first box covers pixels 1 to 8 of 8; the second was counted from 0.
    assert first.target.xyxy.tolist() == [[0, 1, 8, 5.5], [0, 0, 4, 3]]
    assert first.target.classes == ("dog", "cat")
    assert second.image == tmp_path / "JPEGImages" / "b.jpg"
    assert second.target.xyxy.shape == (0, 4)
    assert (first.split, second.split) == (None, None)


def test_voc_has_official_splits(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / "Annotations" / f"{name}.xml", "<annotation></annotation>")
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "a  1\n\n \n")
    write(tmp_path / "ImageSets" / "Main" / "test.txt", "b\n")
    # What no list names is not part of the set.
    assert [(i.image.stem, i.split) for i in Voc().read(tmp_path).items] == [
        ("a", "train"),
        ("b", "test"),
    ]


def test_voc_tells_of_images_that_several_splits_list(tmp_path: Path) -> None:
    for name in "abcd":
        write(tmp_path / "Annotations" / f"{name}.xml", "<annotation></annotation>")
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
    for name, listed in {"trainval": "abc", "train": "ab", "val": "bc", "test": "cd"}.items():
        write(tmp_path / "ImageSets" / "Main" / f"{name}.txt", "\n".join(listed))
    content = Voc().read(tmp_path)
    assert [item.split for item in content.items] == ["train", "val", "test", "test"]
    told = [line for line in content.remarks.lines if "several splits" in line]
    assert len(told) == 1
    assert told[0].startswith("2 images")
    assert told[0].endswith(": b, c")


@pytest.mark.parametrize("tag", ["<a>{}</a>", '<annotation xmlns="urn:x">{}</annotation>'])
def test_voc_takes_nothing_else_for_an_image_without_objects(tmp_path: Path, tag: str) -> None:
    write(tmp_path / "Annotations" / "a.xml", tag.format("<object><name>ant</name></object>"))
    picture(tmp_path / "JPEGImages" / "a.jpg")
    with pytest.raises(BadInput, match="not a Pascal VOC annotation .*, not of annotation"):
        Voc().read(tmp_path)


def test_voc_trains_on_a_list_of_both_where_it_lists_neither(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / "Annotations" / f"{name}.xml", "<annotation></annotation>")
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
    lists = tmp_path / "ImageSets" / "Main"
    write(lists / "trainval.txt", "a\nb\n")
    assert [item.split for item in Voc().read(tmp_path).items] == ["train", "train"]
    write(lists / "val.txt", "b\n")
    assert [item.split for item in Voc().read(tmp_path).items] == ["train", "val"]
    write(lists / "trainval.txt", "z\n")
    write(lists / "val.txt", "\n")
    with pytest.raises(BadInput, match="lists none of the images"):
        Voc().read(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</annotation>", "", "not a Pascal VOC annotation"),
        ("<xmax>8</xmax>", "<xmax>right</xmax>", "not a Pascal VOC annotation .*'right'"),
        ("<name>dog</name>", "", "an object has no name"),
        ("<name>dog</name>", "<name></name>", "an object has no name"),
        ("bndbox", "box", "an object has no bndbox"),
    ],
)
def test_voc_refuses_another_layout(tmp_path: Path, old: str, new: str, message: str) -> None:
    picture(tmp_path / "JPEGImages" / "a.png")
    write(tmp_path / "Annotations" / "a.xml", VOC.replace(old, new))
    with pytest.raises(BadInput, match=rf"a\.xml: {message}"):
        Voc().read(tmp_path)
