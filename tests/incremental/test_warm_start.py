"""What a run remembers of its warm start comes back whole, or is refused in a line."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.incremental.history import History, Part
from regrow.incremental.memory import store_memory
from regrow.incremental.warm_start import WarmStart, refuse_another_start

MakeData = Callable[..., GrowingData]
START = WarmStart(
    parent="/old/best.ckpt",
    parent_hash="ab12",
    renamed={"b": "B"},
    removed=["z"],
    old_names={"a": "a", "B": "b"},
    diff={"added": 3, "text": "3 images more"},
    score=0.625,
    num_leaked=2,
    history=History(1, 9, [True, False], [Part("/old/memory", True, ("train",))]),
    num_wide_epochs=4,
    taught=1.5,
    anchor=0.3,
)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    for start in (START, replace(START, diff=None, history=History(None, 0, []))):
        start.write(tmp_path)
        assert WarmStart.read(tmp_path) == start


def test_a_folder_without_a_record_did_not_begin_warm(tmp_path: Path) -> None:
    assert WarmStart.read(tmp_path) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"parent": 3}, "its parent, or what was removed, is no text"),
        ({"removed": "z"}, "its parent, or what was removed, is no text"),
        ({"removed": [1]}, "its parent, or what was removed, is no text"),
        ({"renamed": []}, "its names of classes are none"),
        ({"old_names": {"a": None}}, "its names of classes are none"),
        ({"diff": {"added": 3}}, "its change of the data is none"),
        ({"num_leaked": -1}, "its counts are none"),
        ({"num_wide_epochs": True}, "its counts are none"),
        ({"score": "0.5"}, "its score or weights are none"),
        ({"anchor": 1.0}, "its score or weights are none"),
        ({"taught": False}, "its score or weights are none"),
    ],
)
def test_a_record_of_other_types_is_refused(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    START.write(tmp_path)
    file = tmp_path / "start.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(BadInput) as told:
        WarmStart.read(tmp_path)
    assert str(told.value) == f"{file}: does not say how the run began ({said}); begin it anew"


@pytest.mark.parametrize("more", [{"unknown": 1}, {"score": None}])
def test_a_record_of_other_names_is_refused(more: dict[str, Any], tmp_path: Path) -> None:
    START.write(tmp_path)
    file = tmp_path / "start.json"
    values = {n: v for n, v in (json.loads(file.read_text()) | more).items() if v is not None}
    file.write_text(json.dumps(values))
    with pytest.raises(BadInput, match=r"start\.json: does not say how the run began \(.*anew$"):
        WarmStart.read(tmp_path)


def test_a_run_that_goes_on_joins_the_memory_of_its_start(
    make_data: MakeData, tmp_path: Path
) -> None:
    old = make_data(train=6, val=2, classes="abz")
    store_memory(old, 3, tmp_path)
    part = Part(str(tmp_path / "memory"), True, ("train",))
    renamed, removed = {"b": "B"}, ["z"]
    expected, data = (make_data(train=4, val=2, seed=1) for _ in range(2))
    part.join_(expected, renamed, removed)
    num_images = len(expected.snapshot.indices("train"))
    start = replace(START, history=History(0, 6, [True] * num_images, [part]))
    start.rejoin_(data)
    assert data.snapshot.hashes == expected.snapshot.hashes
    assert num_images > 4
    # The memory stands for two images of each class, of which z is given up.
    assert start.remembered == Counter(a=2, B=2)
    assert replace(START, history=History(0, 6, [True] * 4)).remembered is None


def test_a_run_goes_on_with_as_many_images_as_it_began_with(make_data: MakeData) -> None:
    start = replace(START, history=History(0, 6, [True] * 5))
    start.rejoin_(make_data(train=5, val=2))
    with pytest.raises(BadInput) as told:
        start.rejoin_(make_data(train=4, val=2))
    assert str(told.value) == (
        "start.json is about 5 training images and the data has 4; --resume needs the data that "
        "the run began with"
    )


def test_the_change_of_the_data_is_said_where_it_is_known() -> None:
    assert START.said == "3 images more"
    assert replace(START, diff=None).said == "the checkpoint does not say its data"


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    file = tmp_path / "old.ckpt"
    file.write_bytes(b"abc")
    return file


# Of `printf abc | sha256sum`.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_start_of_the_same_run_is_accepted(tmp_path: Path, parent: Path) -> None:
    replace(START, parent_hash=ABC).write(tmp_path)
    refuse_another_start(tmp_path, parent, {"b": "B"}, ("z",))
    other = parent.rename(tmp_path / "moved.ckpt")  # the content counts, not the path
    refuse_another_start(tmp_path, other, {"b": "B"}, ["z"])


def test_another_start_is_refused_by_what_differs(tmp_path: Path, parent: Path) -> None:
    with pytest.raises(BadInput) as told:
        refuse_another_start(tmp_path, parent, {}, [])
    assert str(told.value) == (
        f"{tmp_path} holds a run that began without --warm-start; leave that out to go on with "
        "it, or give the warm start another folder with --run"
    )
    replace(START, parent_hash=ABC).write(tmp_path)
    with pytest.raises(BadInput, match="renamed"):
        refuse_another_start(tmp_path, parent, {"b": "C"}, ["z"])
    with pytest.raises(BadInput, match="removed"):
        refuse_another_start(tmp_path, parent, {"b": "B"}, [])
    parent.write_bytes(b"abd")
    for change in (lambda: None, parent.unlink):
        change()
        with pytest.raises(BadInput) as told:
            refuse_another_start(tmp_path, parent, {"b": "B"}, ["z"])
        assert str(told.value) == (
            f"{tmp_path} holds a run that began from /old/best.ckpt, not from {parent} as it is "
            "now; leave --warm-start out to go on with it, or give another folder with --run"
        )
