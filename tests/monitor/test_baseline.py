"""A baseline is written and read back whole, and refused where it is damaged or too small."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regrow.errors import BadInput
from regrow.monitor.alarms.risk import clopper_pearson
from regrow.monitor.baseline import (
    BASELINE,
    REFERENCE,
    Baseline,
    BaselineBuilder,
    baseline_files,
)
from regrow.monitor.features import picture_features
from regrow.monitor.files.constraints import Constraints

CLASSES = ["dark", "light"]


def _predict(pixels: np.ndarray) -> dict[str, Any]:
    share = float(pixels.mean()) / 255
    scores = {"dark": 1 - share, "light": share}
    label = max(scores, key=lambda name: scores[name])
    return {"label": label, "score": scores[label], "scores": scores}


def _built(count: int, **own: Any) -> Baseline:
    builder = BaselineBuilder("ab12", "model.onnx", "labels", CLASSES, own.pop("predict", _predict))
    draw = np.random.default_rng(0)
    group = own.pop("group", lambda number: None)
    for number in range(count):
        pixels = draw.integers(0, draw.integers(2, 256), (8, 8, 3), dtype=np.uint8)
        truth = "dark" if number % 10 else "light"
        builder.add(f"p{number}", pixels, None, truth, group(number))
    return builder.build("test", **own)


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    """One of other pictures than those of the room's tests."""
    return _built(250)


def test_its_files_are_found_among_others(baseline: Baseline, tmp_path: Path) -> None:
    made, copied = tmp_path / "made", tmp_path / "copied"
    made.mkdir()
    copied.mkdir()
    baseline.write(made)
    for name in ("report.json", "captures.json", ".lock"):
        (made / name).write_text("{}")
    for file in baseline_files(made):
        (copied / file.name).write_bytes(file.read_bytes())
    assert {file.name for file in made.iterdir()} - {file.name for file in copied.iterdir()} == {
        "report.json",
        "captures.json",
        ".lock",
    }
    assert Baseline.read(copied).summary.to_dict() == baseline.summary.to_dict()


def test_it_is_read_as_it_was_written(baseline: Baseline, tmp_path: Path) -> None:
    baseline.write(tmp_path)
    found = Baseline.read(tmp_path)
    assert found.summary.to_dict() == baseline.summary.to_dict()
    assert list(found.scores) == list(baseline.scores)
    for name, values in baseline.scores.items():
        np.testing.assert_array_equal(found.scores[name], values)
    for name in ("model", "name", "kind", "classes", "split", "num_groups", "promise", "examples"):
        assert getattr(found, name) == getattr(baseline, name)
    assert json.loads((tmp_path / "statistics.json").read_text())["dataset"]["item_count"] == 250
    asked = {own.name: own for own in Constraints.read(tmp_path / "constraints.json").features}
    assert asked["predicted_class"].domain == ("dark", "light", "none")
    assert asked["bytes"].completeness == 0
    assert asked["brightness"].completeness == 1


def test_scores_are_those_of_the_pictures(baseline: Baseline) -> None:
    draw = np.random.default_rng(0)
    pictures = [
        draw.integers(0, draw.integers(2, 256), (8, 8, 3), dtype=np.uint8) for _ in range(250)
    ]
    expected = sorted(picture_features(pixels, None)["brightness"] or 0.0 for pixels in pictures)
    np.testing.assert_allclose(baseline.scores["brightness"], expected)
    assert {"confidence", "entropy", "probability of dark"} <= baseline.scores.keys()
    assert "bytes" not in baseline.scores  # no file, no size
    assert "blank" not in baseline.scores


def test_the_promise_is_that_of_the_losses(baseline: Baseline) -> None:
    assert baseline.promise is not None
    losses = round(baseline.promise.risk * 250)
    assert baseline.promise.limit == pytest.approx(clopper_pearson(losses, 250, 0.995) + 0.02)


def test_frames_of_one_video_count_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        made = _built(250, group=lambda number: str(number % 25))
    assert made.num_groups == 25
    assert made.num_independent("brightness") == 25
    assert made.promise is not None
    assert made.promise.num_reference == 25
    assert "25 independent pictures: only large changes will show" in caplog.text


@pytest.mark.parametrize("count", [0, 1, 3, 19])
def test_too_small_a_reference_is_refused(count: int) -> None:
    with pytest.raises(BadInput, match=f"has {count} independent pictures?, no change could show"):
        _built(count)


@pytest.mark.parametrize("value", [float("nan"), "high"])
def test_a_model_that_gives_no_numbers_is_refused(value: Any) -> None:
    with pytest.raises(BadInput, match="p0: the model gives a prediction with values of another"):
        _built(30, predict=lambda pixels: {"label": "dark", "score": value})


def _edit(folder: Path, **own: Any) -> None:
    content = json.loads((folder / BASELINE).read_text())
    (folder / BASELINE).write_text(json.dumps(content | own))


Damage = Callable[[Path], Any]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "none": (lambda folder: (folder / BASELINE).unlink(), "no baseline in it"),
    "torn": (lambda folder: (folder / BASELINE).write_text("{"), "not JSON .*again"),
    "list": (lambda folder: (folder / BASELINE).write_text("[]"), "damaged"),
    "empty": (lambda folder: (folder / BASELINE).write_text('{"version": 1}'), "damaged"),
    "version": (lambda folder: (folder / BASELINE).write_text('{"version": 9}'), "of version 9"),
    "reference": (
        lambda folder: (folder / REFERENCE).write_bytes(b"x"),
        "baseline; make the baseline again$",
    ),
    "missing": (lambda folder: (folder / REFERENCE).unlink(), "cannot be read .*baseline again"),
    "ends": (lambda folder: _edit(folder, grey_range=[]), "damaged; make the baseline again"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_one_line(baseline: Baseline, tmp_path: Path, name: str) -> None:
    baseline.write(tmp_path)
    damage, match = DAMAGES[name]
    damage(tmp_path)
    with pytest.raises(BadInput, match=match):
        Baseline.read(tmp_path)
