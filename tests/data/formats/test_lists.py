"""The rows of lists of images."""

from pathlib import Path

import pytest

from regrow.data.checks.faults import Faults
from regrow.data.formats.lists import csv_rows, find_lists, json_rows, read_row
from regrow.errors import BadInput


def test_the_only_list_is_found_or_that_of_each_split(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no list of images in it; name one, data\.source\.file"):
        find_lists(tmp_path)
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.csv").touch()
    own = [(tmp_path / "train" / "a.csv", "train"), (tmp_path / "valid" / "a.csv", "val")]
    assert find_lists(tmp_path) == own
    (tmp_path / "b.jsonl").touch()
    assert find_lists(tmp_path) == [(tmp_path / "b.jsonl", None)]
    (tmp_path / "c.manifest").touch()
    with pytest.raises(BadInput, match="2 lists of images in it; name one"):
        find_lists(tmp_path)


def test_rows_are_called_by_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(" image ,label\n a.png ,ant\n")
    rows = [*csv_rows(tmp_path / "a.csv", Faults())]
    assert rows == [(f"{tmp_path}/a.csv line 2", {"image": "a.png", "label": "ant"})]
    (tmp_path / "a.jsonl").write_text('\n{"image": "a.png", "label": 3}\n[]\n')
    faults = Faults()
    rows = [*json_rows(tmp_path / "a.jsonl", None, faults)]
    assert rows == [(f"{tmp_path}/a.jsonl line 2", {"image": "a.png", "label": 3})]
    with pytest.raises(BadInput, match=r"a\.jsonl line 3: not a JSON object"):
        faults.refuse()


def test_a_row_has_an_image_a_label_and_perhaps_more() -> None:
    row = read_row({"image": "a", "label": "ant", "split": " Valid", "group": 0}, None, "x")
    assert (row.image, row.split, row.group, row.mask, row.size) == ("a", "val", "0", None, None)
    assert read_row({"image": "a", "label": 0}, "test", "x").split == "test"
    with pytest.raises(BadInput, match="x: needs an image and a label"):
        read_row({"image": "a", "label": ""}, None, "x")
    with pytest.raises(BadInput, match="x: the split 'holdout' is not train, val or test"):
        read_row({"image": "a", "label": "b", "split": "holdout"}, None, "x")
