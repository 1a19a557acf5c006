"""Annotations of strangers: odd types and bombs end in one line; bad rows can be left out."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.data.checks.faults import Faults
from regrow.data.formats import Coco, ImageFolder, ManifestFile, Masks, Voc
from regrow.data.module import GrowingData
from regrow.data.sagemaker import SageMakerBoxes, SageMakerList, SageMakerMasks
from regrow.data.source import Source
from regrow.data.stored import LIST, Stored, store
from regrow.errors import BadInput

ROWS = "bad rows left out, with their images"
ODD = [
    *("null", "true", "-1", "0.5", "1e999", "-Infinity", "NaN", "1" + "0" * 400, "2" + "0" * 20),
    *('""', '"x"', '"\\ud800"', '"a\\u0000b"', '".."', '"/etc/passwd"', '"a\\nb"', '"1"'),
    *("[]", "[[]]", "[null]", "{}", '{"a": null}', "[" * 50 + "]" * 50),
]


def picture(file: Path, seed: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *file.as_posix().encode()]).integers(0, 256, (16, 16, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(file)
    return file


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def spoiled(content: Any) -> list[str]:
    """Return the text of a value with each of its parts replaced by each odd one."""
    hole = "HOLE-7f3a"
    texts: list[str] = []

    def visit(part: Any, put: Callable[[Any], None]) -> None:
        put(hole)
        texts.append(json.dumps(content))
        put(part)
        if isinstance(part, dict):
            for key in list(part):
                visit(part[key], lambda value, key=key: part.__setitem__(key, value))
        if isinstance(part, list):
            for place in range(len(part)):
                visit(part[place], lambda value, place=place: part.__setitem__(place, value))

    box = [content]
    visit(content, lambda value: box.__setitem__(0, value))
    texts = [text for text in texts if hole in text]
    return [text.replace(f'"{hole}"', odd) for text in texts for odd in ODD]


def read_or_refuse(source: Source, root: Path) -> str:
    """Read, with bad rows left out and not; a refusal is one line that can be printed."""
    said = ""
    for skip_bad in (False, True):
        try:
            _ = GrowingData(source, root, (8, 8), skip_bad=skip_bad).snapshot
        except BadInput as error:
            said = str(error)
            assert said.isprintable()
    return said


COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 16, "height": 16}],
    "categories": [{"id": 1, "name": "ant"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}],
}
BOXES = {
    "file": "a.png",
    "image_size": [{"width": 16, "height": 16, "depth": 3}],
    "annotations": [{"class_id": 0, "left": 1, "top": 1, "width": 5, "height": 5}],
    "categories": [{"class_id": 0, "name": "ant"}],
}
MANIFEST = {
    "source-ref": "s3://b/a.png",
    "bb": {"image_size": BOXES["image_size"], "annotations": BOXES["annotations"]},
    "bb-metadata": {"class-map": {"0": "ant"}},
}
MASK_ROW = {
    "source-ref": "a.png",
    "m-ref": "m.png",
    "m-ref-metadata": {"internal-color-map": {"0": {"class-name": "ant"}}},
}
PLAIN = {"image": "a.png", "label": "ant", "split": "train", "group": "g", "attribute": "x"}
CLASSES = {"classes": {"road": 0, "sky": 1}, "void": 255}
LABEL_MAP = {"map": {"0": 5, "1": 0}}


def masks(root: Path) -> None:
    for folder, name in (("images/train", "a"), ("train", "a")):
        picture(root / folder / f"{name}.png")
    for folder in ("masks/train", "train_annotation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(root / folder / "a.png")


FILES: dict[str, tuple[Source, str, Any]] = {
    "coco": (Coco("", "x.json"), "x.json", COCO),
    "boxes": (SageMakerBoxes(), "train_annotation/a.json", BOXES),
    "manifest": (ManifestFile("x.manifest"), "x.manifest", MANIFEST),
    "mask row": (ManifestFile("x.manifest"), "x.manifest", MASK_ROW),
    "plain row": (ManifestFile("x.jsonl"), "x.jsonl", PLAIN),
    "classes": (Masks(), "classes.json", CLASSES),
    "label map": (SageMakerMasks(2), "label_map/train_label_map.json", LABEL_MAP),
}


@pytest.mark.parametrize("name", FILES)
def test_values_of_odd_types_end_in_one_line(tmp_path: Path, name: str) -> None:
    source, file, content = FILES[name]
    picture(tmp_path / "a.png")
    picture(tmp_path / "train" / "a.png")
    if name in ("classes", "label map"):
        masks(tmp_path)
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "m.png")
    texts = spoiled(content)
    assert len(texts) > 50
    for text in texts:
        write(tmp_path / file, text)
        # One image is no data set: the sound ones end there.
        assert read_or_refuse(source, tmp_path), text


def test_a_stored_snapshot_of_odd_types_ends_in_one_line(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    items = ImageFolder().read(tmp_path).items
    store(tmp_path / "kept", "labels", ["a"], items)
    for text in spoiled(json.loads((tmp_path / "kept" / LIST).read_text())):
        write(tmp_path / "kept" / LIST, text)
        try:
            Stored().read(tmp_path / "kept")
        except BadInput as error:
            assert str(error).isprintable()  # noqa: PT017 - it need not be refused


OBJECT = "<object><name>ant</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax>"
XML = f"<annotation><filename>a.png</filename>{OBJECT}</bndbox></object></annotation>"


def bomb(levels: int = 9) -> str:
    entities = "".join(
        f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha"}">' for n in range(levels)
    )
    return f"<!DOCTYPE x [{entities}]><annotation><filename>&e{levels - 1};</filename></annotation>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<?xml version="1.0" encoding="nope"?><annotation/>', "unknown encoding"),
        (bomb(), "it has a document type"),
        (bomb(2), "it has a document type"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><annotation/>', "it has a document type"),
        (XML.replace("<xmax>5", f"<xmax>1{'0' * 400}"), "is empty or outside"),
        (XML.replace("<xmax>5", "<xmax>five"), "'five'"),
        (XML.replace("a.png", "/etc/passwd"), "no image /etc/passwd below"),
        (XML.replace("a.png", "../a.png"), "below .*JPEGImages there is none; one is needed"),
        (XML.replace("<filename>", "<size><width>x</width></size><filename>"), "its size is none"),
        ("<annotation>" * 100_000 + "</annotation>" * 100_000, "no val images|no classes"),
        ("", "not a Pascal VOC annotation"),
        ("\ufffe\ufffe", "not a Pascal VOC annotation"),
    ],
)
def test_odd_xml_ends_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    picture(tmp_path / "JPEGImages" / "a.png")
    write(tmp_path / "Annotations" / "a.xml", text)
    if "../" in text:
        picture(tmp_path / "a.png")
        (tmp_path / "JPEGImages" / "a.png").unlink()
    with pytest.raises(BadInput, match=message):
        _ = GrowingData(Voc(), tmp_path).snapshot


@pytest.mark.parametrize("make", [lambda f: f.mkdir(), lambda f: f.symlink_to("/nope")])
def test_an_annotation_that_is_no_file_ends_in_one_line(tmp_path: Path, make: Any) -> None:
    (tmp_path / "Annotations").mkdir()
    make(tmp_path / "Annotations" / "a.xml")
    with pytest.raises(BadInput, match=r"a\.xml"):
        Voc().read(tmp_path)


# Numbers.


@pytest.mark.parametrize("number", [10**12, 2**70, 1e300])
def test_huge_class_numbers_take_no_memory(tmp_path: Path, number: float) -> None:
    picture(tmp_path / "train" / "a.png")
    write(tmp_path / "train_lst" / "l.lst", f"0\t{number}\ta.png\n")
    with pytest.raises(BadInput, match=r"l\.lst line 1: .*none that is a class number"):
        SageMakerList().read(tmp_path)
    content = {**BOXES, "annotations": [{**BOXES["annotations"][0], "class_id": number}]}
    write(tmp_path / "train_annotation" / "a.json", json.dumps(content))
    with pytest.raises(BadInput, match=r"a\.json: .*the class number 1.* is not a whole number in"):
        SageMakerBoxes().read(tmp_path)
    masks(tmp_path)
    write(tmp_path / "classes.json", json.dumps({"road": 0, "sky": int(number)}))
    with pytest.raises(BadInput, match=r"classes\.json: the class number .* in \[0, 65535\]"):
        Masks().read(tmp_path)
    write(tmp_path / "classes.json", json.dumps({"classes": ["road"], "void": int(number)}))
    with pytest.raises(BadInput, match=r"classes\.json: void is .*at most 65535"):
        Masks().read(tmp_path)
    with pytest.raises(BadInput, match="num_classes is .*, it must lie in"):
        ManifestFile(num_classes=int(number))


def test_a_huge_category_is_but_a_name_for_one(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    text = json.dumps(COCO).replace('"id": 1, "name"', f'"id": {10**18}, "name"')
    write(tmp_path / "x.json", text.replace('"category_id": 1', f'"category_id": {10**18}'))
    (item,) = Coco("", "x.json").read(tmp_path).items
    assert item.target.classes == ("ant",)  # type: ignore[union-attr]


def test_more_boxes_or_longer_names_than_there_can_be_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    boxes = COCO["annotations"] * 50_001
    write(tmp_path / "x.json", json.dumps({**COCO, "annotations": boxes}))
    with pytest.raises(BadInput, match=r"a\.png: has 50,001 boxes, more than 50,000"):
        Coco("", "x.json").read(tmp_path)
    write(tmp_path / "x.json", json.dumps(COCO).replace("ant", "a" * 501))
    with pytest.raises(BadInput, match="has 501 letters; give it 1 to 500"):
        Coco("", "x.json").read(tmp_path)
    write(tmp_path / "x.json", json.dumps(COCO).replace("ant", "  "))
    with pytest.raises(BadInput, match="has 0 letters"):
        Coco("", "x.json").read(tmp_path)


# Contradictions.


def test_coco_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
    twice = {**COCO, "images": [*COCO["images"], {"id": 1, "file_name": "b.png"}]}
    write(tmp_path / "x.json", json.dumps(twice))
    with pytest.raises(BadInput, match="image 1 is listed twice"):
        Coco("", "x.json").read(tmp_path)
    same = {**COCO, "images": [*COCO["images"], {"id": 2, "file_name": "./a.png"}]}
    write(tmp_path / "x.json", json.dumps(same))
    with pytest.raises(BadInput, match=r"image 1: a\.png is the file .* and so is \./a\.png of"):
        Coco("", "x.json").read(tmp_path)
    named = {**COCO, "categories": [{"id": 1, "name": "ant"}, {"id": 1, "name": "bee"}]}
    write(tmp_path / "x.json", json.dumps(named))
    with pytest.raises(BadInput, match="the category 1 is ant and bee"):
        Coco("", "x.json").read(tmp_path)


def voc(root: Path, stem: str, filename: str | None, *images: str) -> list[str]:
    for name in images:
        picture(root / "JPEGImages" / name)
    named = "" if filename is None else f"<filename>{filename}</filename>"
    write(root / "Annotations" / f"{stem}.xml", XML.replace("<filename>a.png</filename>", named))
    return [item.name for item in Voc().read(root).items]


@pytest.mark.parametrize(
    "filename", [None, "", "3", "3.png", "3.jpg", "C:\\data\\3.png", "/home/me/3.jpg", "x/3.png"]
)
def test_voc_takes_the_image_of_its_own_name(tmp_path: Path, filename: str | None) -> None:
    assert voc(tmp_path, "3", filename, "3.png", "4.png") == ["JPEGImages/3.png"]


def test_voc_takes_the_image_that_it_names_where_none_has_its_own_name(tmp_path: Path) -> None:
    assert voc(tmp_path, "label_3", "3.png", "3.png") == ["JPEGImages/3.png"]


@pytest.mark.parametrize(
    ("filename", "images", "message"),
    [
        ("4.png", ("3.png", "4.png"), r"3\.xml: names the image 4\.png, and .*3\.png has its own"),
        ("5.png", ("3.png",), r"3\.xml: no image 5\.png below"),
        ("C:\\5.png", ("3.png",), r"3\.xml: no image C:\\5\.png below"),
        ("3", ("3.png", "3.jpg"), r"there is 3\.jpg, 3\.png; one is needed"),
        (None, ("4.png",), "there is none; one is needed"),
        ("../3.png", ("4.png",), "there is none; one is needed"),
        ("../../private/4.png", ("3.png",), "no image ../../private/4.png below"),
    ],
)
def test_voc_names_that_contradict_the_files_are_refused(
    tmp_path: Path, filename: str | None, images: tuple[str, ...], message: str
) -> None:
    picture(tmp_path / "3.png")
    with pytest.raises(BadInput, match=message):
        voc(tmp_path, "3", filename, *images)


def test_two_annotations_of_one_image_are_refused(tmp_path: Path) -> None:
    voc(tmp_path, "x", "3.png", "3.png")
    with pytest.raises(
        BadInput, match=r"x\.xml: its image is the file .*3\.png, and so is that of .*y\.xml"
    ):
        voc(tmp_path, "y", "3.png")


def test_a_sagemaker_file_that_names_the_image_of_another_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "train" / f"{name}.png")
    write(tmp_path / "train_annotation" / "a.json", json.dumps({**BOXES, "file": "b.png"}))
    with pytest.raises(BadInput, match=r"a\.json: names the image .*b\.png, and .*a\.png has its"):
        SageMakerBoxes().read(tmp_path)


@pytest.mark.parametrize("source", [Masks(), SageMakerMasks(2)])
def test_one_mask_is_of_one_image(tmp_path: Path, source: Source) -> None:
    masks(tmp_path)
    write(tmp_path / "classes.json", '["road", "sky"]')
    assert len(source.read(tmp_path).items) == 1
    for folder in ("images/train", "train"):
        picture(tmp_path / folder / "a.jpg")
    with pytest.raises(BadInput, match=r"a\.jpg: its mask .*a\.png is that of .*a\.png too"):
        source.read(tmp_path)


# Bad rows.


def test_bad_rows_of_a_list_are_left_out_and_counted(tmp_path: Path) -> None:
    for number in range(40):
        picture(tmp_path / f"{number}.png")
    rows = [json.dumps({"image": f"{n}.png", "label": "ab"[n % 2]}) for n in range(40)]
    bad = ["{", "[]", '{"image": "x.png", "label": "a"}', '{"image": "0.png"}', '{"label": 1}']
    write(tmp_path / "l.jsonl", "\n".join([*rows, *bad, '{"image": "1.png", "label": ["a"]}']))
    with pytest.raises(BadInput, match=": 6 bad rows or boxes: .*line 41.*line 42.*line 44"):
        ManifestFile().read(tmp_path)
    data = GrowingData(ManifestFile(), tmp_path, (8, 8), skip_bad=True, val_share=0.4)
    assert len(data.snapshot.items) == 40
    assert data.remarks.count(ROWS) == 6


def many(root: Path, folder: str) -> None:
    for number in range(12):
        picture(root / folder / f"{number}.png")


def test_bad_entries_of_coco_are_left_out_and_counted(tmp_path: Path) -> None:
    for split in ("train", "val"):
        many(tmp_path, f"images/{split}")
        images = [{"id": n, "file_name": f"{n}.png"} for n in range(13)]  # the last is missing
        boxes: list[dict[str, Any]] = [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 5, 5]} for n in range(12)
        ]
        boxes[2]["bbox"] = [1, 1, 5, 0]
        boxes[3]["category_id"] = 7
        boxes[4]["bbox"] = [1, 1, 5]
        boxes[5]["image_id"] = 77
        content = {**COCO, "images": images, "annotations": boxes}
        write(tmp_path / f"annotations/instances_{split}.json", json.dumps(content))
    with pytest.raises(BadInput, match=": 8 bad rows or boxes: .*annotation 3 has the category 7"):
        Coco().read(tmp_path)
    data = GrowingData(Coco(), tmp_path, (16, 16), skip_bad=True, test_share=0)
    assert len(data.snapshot.items) == 24
    boxed = [item.target for item in data.snapshot.items]
    assert sum(len(target.classes) for target in boxed) == 2 * 8  # type: ignore[union-attr]
    assert data.remarks.count(ROWS) == 2 * 2  # an image missing, and one not listed
    left_out = "bad boxes left out (what they show counts as background)"
    assert data.remarks.count(left_out) == 2 * 3


@pytest.mark.parametrize("source", [SageMakerBoxes(), Voc()])
def test_bad_files_of_annotations_are_left_out_with_their_images(
    tmp_path: Path, source: Source
) -> None:
    for folder in ("train", "validation", "JPEGImages"):
        many(tmp_path, folder)
    for number in range(12):
        content = json.dumps({**BOXES, "file": f"{number}.png"}) if number else "{"
        for channel in ("train", "validation"):
            write(tmp_path / f"{channel}_annotation" / f"{number}.json", content)
        xml = XML.replace("a.png", f"{number}.png") if number else "<annotation>"
        write(tmp_path / "Annotations" / f"{number}.xml", xml)
    for split, numbers in (("train", range(8)), ("val", range(8, 12))):
        write(tmp_path / "ImageSets/Main" / f"{split}.txt", "\n".join(map(str, numbers)))
    num_bad = 1 if isinstance(source, Voc) else 2
    with pytest.raises(BadInput, match=r"/0\.(json|xml)"):
        source.read(tmp_path)
    data = GrowingData(source, tmp_path, (16, 16), skip_bad=True, test_share=0)
    assert len(data.snapshot.items) == 11 * num_bad
    assert data.remarks.count(ROWS) == num_bad


# Names.


def test_class_names_have_one_form_and_no_blanks(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    for folder in (composed, decomposed, " ant", "ant", "bee"):
        picture(tmp_path / folder / "1.png")
    for folder in ("empty", "__MACOSX/ant", ".ipynb_checkpoints"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "empty" / ".DS_Store").touch()
    content = ImageFolder().read(tmp_path)
    assert content.classes == ["ant", "bee", composed]
    assert sorted(str(item.target) for item in content.items) == sorted(
        ["ant", "ant", "bee", composed, composed]
    )
    kinds = {kind.split(",")[0]: v["count"] for kind, v in content.remarks.to_dict().items()}
    assert kinds["class names that differ by blanks or Unicode form alone"] == 2
    assert kinds["folders without images"] == 1


def test_class_names_of_files_have_one_form_and_no_blanks(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", " caf\u00e9 ")
    clean = unicodedata.normalize("NFC", "caf\u00e9")
    for folder in ("", "train", "JPEGImages"):
        picture(tmp_path / folder / "a.png")
    for number, line in enumerate(("a.png,", " a.png , ")):
        write(tmp_path / f"{number}.csv", f"image , label\n{line}{name}\n".replace(" ,", ","))
        assert ManifestFile(f"{number}.csv").read(tmp_path).classes == [clean]
    write(tmp_path / "x.json", json.dumps(COCO).replace("ant", name))
    assert Coco("", "x.json").read(tmp_path).classes == [clean]
    write(tmp_path / "train_annotation" / "a.json", json.dumps(BOXES).replace('"ant"', f'"{name}"'))
    assert SageMakerBoxes().read(tmp_path).classes == [clean]
    write(tmp_path / "Annotations" / "a.xml", XML.replace("ant<", f"{name}<"))
    (item,) = Voc().read(tmp_path).items
    assert item.target.classes == (clean,)  # type: ignore[union-attr]
    masks(tmp_path)
    write(tmp_path / "classes.json", json.dumps([name, "b"]))
    assert Masks().read(tmp_path).classes == [clean, "b"]
    write(tmp_path / "classes.json", json.dumps([name, clean]))
    with pytest.raises(BadInput, match="is named twice"):
        Masks().read(tmp_path)


# What is left out.


def told(source: Source, root: Path) -> dict[str, int]:
    return {kind: value["count"] for kind, value in source.read(root).remarks.to_dict().items()}


def test_what_no_annotation_lists_is_counted(tmp_path: Path) -> None:
    unlisted = "images left out that no annotation lists"
    negatives = "images listed without a box: they count as background"
    for name in ("a", "b", "c"):
        for folder in ("coco", "voc/JPEGImages", "csv", "lst/train"):
            picture(tmp_path / folder / f"{name}.png")
    (tmp_path / "coco" / "d.heic").touch()
    (tmp_path / "coco" / "captions.json").touch()
    content = {**COCO, "images": [*COCO["images"], {"id": 2, "file_name": "b.png"}]}
    write(tmp_path / "coco" / "x.json", json.dumps(content))
    assert told(Coco("", "x.json"), tmp_path / "coco") == {
        unlisted: 1,
        negatives: 1,
        "annotation files left out": 1,
        "images left out whose ending is not read (save them as JPEG or PNG)": 1,
    }
    for file in ("a", "b", "old/c"):
        write(tmp_path / "voc" / "Annotations" / f"{file}.xml", XML)
    write(tmp_path / "voc" / "ImageSets" / "Main" / "train.txt", "a\nz\n")
    assert told(Voc(), tmp_path / "voc") == {
        unlisted: 2,
        "names in ImageSets/Main without an annotation, left out": 1,
        "annotations left out that ImageSets/Main does not list": 1,
        "annotation files left out": 1,
    }
    write(tmp_path / "csv" / "l.csv", "image,label\na.png,ant\n")
    assert told(ManifestFile(), tmp_path / "csv") == {unlisted: 2}
    write(tmp_path / "lst" / "train_lst" / "l.lst", "0\t1\ta.png\n")
    assert told(SageMakerList(), tmp_path / "lst") == {unlisted: 2}
    masks(tmp_path / "masks")
    picture(tmp_path / "masks" / "masks" / "train" / "z.png")
    write(tmp_path / "masks" / "classes.json", '["road"]')
    assert told(Masks(), tmp_path / "masks") == {"masks left out that are of no image": 1}


# Layouts of others.


def test_voc_in_folders_of_other_names(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    write(tmp_path / "annots" / "a.xml", XML)
    (item,) = Voc("images", "annots").read(tmp_path).items
    assert item.name == "images/a.png"
    with pytest.raises(BadInput, match=r"no Annotations/\*\.xml in it; .*source\.annotations"):
        Voc().read(tmp_path)


def test_masks_named_after_their_images(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    mask = picture(tmp_path / "masks" / "a_mask.png")
    write(tmp_path / "classes.json", '["road"]')
    with pytest.raises(BadInput, match=r"its mask .*a\.png is not there; add it, .*mask_name"):
        Masks("images", "masks").read(tmp_path)
    (item,) = Masks("images", "masks", mask_name="{name}_mask").read(tmp_path).items
    assert item.target.pixels == mask  # type: ignore[union-attr]
    with pytest.raises(BadInput, match=r"mask_name is 'mask'; it must hold \{name\}"):
        Masks(mask_name="mask")


def test_a_table_of_boxes(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.png")
    table = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    rows = ["a.png,16,16,ant,1,2,5,7", "b.png,16,16,bee,0,0,3,3", "a.png,16,16,bee,2,2,9,8"]
    write(tmp_path / "l.csv", table + "\n".join([*rows, "c.png,16,16,,,,,"]))
    content = ManifestFile().read(tmp_path)
    assert (content.kind, content.classes) == ("boxes", ["ant", "bee"])
    a, b, c = content.items
    assert a.target.xyxy.tolist() == [[1, 2, 5, 7], [2, 2, 9, 8]]  # type: ignore[union-attr]
    assert a.target.classes == ("ant", "bee")  # type: ignore[union-attr]
    assert b.declared == (16, 16, 0)
    assert c.target.classes == ()  # type: ignore[union-attr]
    write(tmp_path / "l.csv", table + "a.png,16,16,ant,1,2,5,x\na.png,15,16,ant,1,2,5,7\n")
    with pytest.raises(BadInput, match=r": 2 bad rows.*line 2: .*'x'.*line 2: its image_size is"):
        ManifestFile().read(tmp_path)


def table(root: Path, lines: list[str], head: str = "image,label") -> ManifestFile:
    """Write a list of four images of two classes, and further lines."""
    good = [f"{picture(root / f'{n}.png').name},{'ab'[n % 2]}" for n in range(4)]
    write(root / "x.csv", "\n".join([head, *good, *lines]))
    return ManifestFile("x.csv")


@pytest.mark.parametrize("line", ["4.png, ", '4.png,"a\nb"', "4.png,a\x00b", f"4.png,{'c' * 501}"])
def test_a_row_whose_class_has_no_name_is_a_bad_row_and_no_more(tmp_path: Path, line: str) -> None:
    picture(tmp_path / "4.png")
    source = table(tmp_path, [line])
    with pytest.raises(BadInput, match=r"^4.png: the class name .*skip_bad=true"):
        source.read(tmp_path)
    faults = Faults()
    content = source.gather(tmp_path, faults)
    assert list(content.classes) == ["a", "b"]
    assert [item.name for item in content.items] == ["0.png", "1.png", "2.png", "3.png"]
    faults.settle(True, content.remarks)
    assert content.remarks.count(ROWS) == 1


def test_rows_of_one_image_are_all_left_out(tmp_path: Path) -> None:
    source = table(tmp_path, ["1.png,a"])
    with pytest.raises(BadInput, match="2 bad rows or boxes: 1.png is listed twice"):
        source.read(tmp_path)
    faults = Faults()
    assert [item.name for item in source.gather(tmp_path, faults).items] == [
        *("0.png", "2.png", "3.png")
    ]
    assert faults


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    source = table(tmp_path, [], head="label,image, label")
    with pytest.raises(BadInput, match="the column label twice"):
        source.read(tmp_path)


@pytest.mark.parametrize("name", [None, ["ant"], {"a": 1}])
def test_what_is_no_text_is_the_name_of_no_class(tmp_path: Path, name: Any) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "train" / "a.png")
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "m.png")
    masks(tmp_path)
    spoilt = {
        "coco": COCO | {"categories": [{"id": 1, "name": name}]},
        "boxes": BOXES | {"categories": [{"class_id": 0, "name": name}]},
        "manifest": MANIFEST | {"bb-metadata": {"class-map": {"0": name}}},
        "mask row": MASK_ROW
        | {"m-ref-metadata": {"internal-color-map": {"0": {"class-name": name}}}},
        "classes": ["road", name],
    }
    for kind, content in spoilt.items():
        source, file, _ = FILES[kind]
        write(tmp_path / file, json.dumps(content))
        with pytest.raises(BadInput, match=r"class name|class-name"):
            source.read(tmp_path)


def test_a_number_with_two_names_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "train"):
        picture(folder / "a.png")
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "m.png")
    colors = {"0": {"class-name": "ant"}, "00": {"class-name": "bee"}}
    pair = [{"class_id": 0, "name": "ant"}, {"class_id": "0", "name": "bee"}]
    spoilt = {
        "boxes": BOXES | {"categories": pair},
        "manifest": MANIFEST | {"bb-metadata": {"class-map": {"0": "ant", "00": "bee"}}},
        "mask row": MASK_ROW | {"m-ref-metadata": {"internal-color-map": colors}},
    }
    for kind, content in spoilt.items():
        source, file, _ = FILES[kind]
        write(tmp_path / file, json.dumps(content))
        with pytest.raises(BadInput, match="number twice|each number one name"):
            source.read(tmp_path)


@pytest.mark.parametrize("number", ["1", 1.0])
def test_numbers_of_masks_that_are_no_whole_numbers_are_not_dropped(
    tmp_path: Path, number: Any
) -> None:
    masks(tmp_path)
    write(tmp_path / "classes.json", json.dumps({"road": 0, "sky": number, "about": "text"}))
    with pytest.raises(BadInput, match="names with numbers"):
        Masks().read(tmp_path)
