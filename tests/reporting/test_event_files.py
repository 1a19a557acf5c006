"""TensorBoard's own reader finds the points of event files, and none twice."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from regrow.reporting.event_files import Point, replace_events


def _jpeg(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 40, 40)).save(file, "JPEG")
    return file.getvalue()


def _points(first: int, last: int, light: float = 1.0) -> list[Point]:
    return [Point(n, 3600.0 * n, {"a/light": n * light}) for n in range(first, last)]


def _read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def _shown(events: EventAccumulator, tag: str = "a/light") -> list[tuple[int, float, float]]:
    return [(own.step, own.wall_time, own.value) for own in events.Scalars(tag)]


def test_numbers_texts_and_pictures_are_read_back_with_step_and_time(tmp_path: Path) -> None:
    encoded = _jpeg(30, 20)
    point = Point(
        495_000, 1.782e9, {"evidence/light": 2.5}, {"alarms": "**warn** `light`"}, {"p": encoded}
    )
    replace_events(tmp_path, [point])
    events = _read(tmp_path)
    assert _shown(events, "evidence/light") == [(495_000, 1.782e9, 2.5)]
    (text,) = events.Tensors("alarms")
    assert text.tensor_proto.string_val == [b"**warn** `light`"]
    assert events.SummaryMetadata("alarms").plugin_data.plugin_name == "text"
    (picture,) = events.Images("p")
    assert (picture.width, picture.height) == (30, 20)
    assert picture.encoded_image_string == encoded


def test_points_that_are_written_again_are_not_doubled(tmp_path: Path) -> None:
    replace_events(tmp_path, _points(0, 4))
    live = _read(tmp_path)
    before = [file.name for file in tmp_path.iterdir()]
    replace_events(tmp_path, _points(0, 4))
    assert [file.name for file in tmp_path.iterdir()] == before
    for light in (2.0, 3.0, 4.0):
        replace_events(tmp_path, _points(0, 6, light))
        expected = [(n, 3600.0 * n, light * n) for n in range(6)]
        assert _shown(_read(tmp_path)) == expected
        # So it is for one that has shown the points since before.
        assert _shown(live.Reload()) == expected
        assert len([*tmp_path.iterdir()]) == 2


def test_points_that_are_gone_are_not_shown(tmp_path: Path) -> None:
    replace_events(tmp_path, _points(0, 4))
    replace_events(tmp_path, _points(3, 6))
    assert [step for step, _, _ in _shown(_read(tmp_path))] == [3, 4, 5]


def test_what_cannot_be_shown_is_left_out_or_escaped(tmp_path: Path) -> None:
    scalars = {"nan": float("nan"), "inf": float("inf"), "a\ud800\x1b[2J": 1.0, "b" * 5000: 2.0}
    replace_events(tmp_path, [Point(0, 0.0, scalars, {"t": "\ud800"})])
    tags = _read(tmp_path).Tags()
    assert "a\\ud800\\x1b[2J" in tags["scalars"]
    assert len(tags["scalars"]) == 2
    assert max(map(len, tags["scalars"])) < 300


@pytest.mark.parametrize("name", ["events.out.tfevents.x", "events.out.tfevents.99999999999.y"])
def test_a_file_of_another_name_is_replaced_too(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"damaged")
    replace_events(tmp_path, _points(0, 2))
    assert not (tmp_path / name).exists()
    assert len(_shown(_read(tmp_path))) == 2


def test_a_damaged_file_of_before_hides_nothing(tmp_path: Path) -> None:
    replace_events(tmp_path, _points(0, 2))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    replace_events(tmp_path, _points(0, 3))
    assert len(_shown(_read(tmp_path))) == 3


def test_no_point_is_a_file_that_shows_nothing(tmp_path: Path) -> None:
    replace_events(tmp_path, _points(0, 2))
    replace_events(tmp_path, [])
    assert _shown(_read(tmp_path)) == []


def test_pytorch_is_not_imported() -> None:
    code = "import sys, regrow.reporting.event_files; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
