"""Faults: noted one by one, and refused all at once."""

from pathlib import Path

import pytest

from regrow.data.checks.faults import BOXES, NUM_SHOWN, ROWS, Faults, described, reading, shown
from regrow.data.checks.remarks import Remarks
from regrow.errors import BadInput


def test_one_fault_is_refused_in_its_own_words() -> None:
    faults = Faults()
    faults.refuse()
    faults.add("a.txt: bad; mend it", "a.txt")
    with pytest.raises(BadInput, match=r"^a\.txt: bad; mend it; --data\.skip_bad=true leaves out"):
        faults.refuse()


def test_several_faults_name_the_root_and_each_way_out_once() -> None:
    faults = Faults(Path("/x"))
    for number in range(NUM_SHOWN + 5):
        faults.add(f"/x/{number}.txt: bad; mend it", str(number))
    with pytest.raises(BadInput) as refused:
        faults.refuse()
    line = str(refused.value)
    assert line.startswith("/x: 25 bad rows or boxes: 0.txt: bad; 1.txt: bad; ")
    assert line.endswith(
        "19.txt: bad; and 5 more; mend it; --data.skip_bad=true leaves out what is bad"
    )


def test_whatever_fails_in_a_row_is_a_fault_of_it() -> None:
    faults = Faults()
    with faults.row("row 1"):
        raise BadInput("row 1: said")
    with faults.row("row 2", BOXES):
        raise KeyError("x")
    assert faults
    remarks = Remarks()
    faults.settle(True, remarks)
    assert not faults
    assert (remarks.count(ROWS), remarks.count(BOXES)) == (1, 1)
    with faults.row("row 3"):
        raise ValueError("odd")
    with pytest.raises(BadInput, match=r"row 3: not to be read \(ValueError: odd\); correct it"):
        faults.settle(False, remarks)


def test_values_of_strangers_are_short_and_printable() -> None:
    assert shown("a" * 300) == "a" * 200 + "..."
    assert shown("\x1b[2J") == "'\\x1b[2J'"
    assert shown([1, "\u202e"]) == "[1, '\\u202e']"
    assert described(ValueError("a\nb")) == "not to be read (ValueError: a b)"


def test_whatever_fails_in_a_file_ends_in_a_line_that_names_it() -> None:
    with (
        pytest.raises(BadInput, match=r"^x\.json: not to be read \(KeyError: 'a'\); correct it"),
        reading("x.json"),
    ):
        raise KeyError("a")
    with pytest.raises(BadInput, match="^own$"), reading("x.json"):
        raise BadInput("own")
