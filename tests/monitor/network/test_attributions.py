"""Attributions of a linear network are what each cell adds, exactly."""

import logging
from itertools import count

import numpy as np
import pytest
from networks import SIZE, LinearNetwork

from regrow.monitor.network import attributions
from regrow.monitor.network.attributions import (
    CELLS,
    attribution,
    blurred,
    cell_numbers,
    explain,
)
from regrow.monitor.network.sample import Sample
from regrow.monitor.network.shapley import design

WEIGHTS = np.arange(16.0) / 240
COALITIONS = design(16, 64, seed=0)


def _image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, *SIZE), dtype=np.uint8)


@pytest.mark.parametrize(("weights", "sign"), [(WEIGHTS * 2, 1), (WEIGHTS / 2, -1)])
def test_each_cell_adds_its_weight_times_what_is_not_blurred(
    weights: np.ndarray, sign: int
) -> None:
    """The class is the likelier one, so what adds to the one takes from the other."""
    network, image = LinearNetwork(weights), _image()
    found = attribution(network, image, COALITIONS)
    assert found is not None
    assert found.label == (0 if sign > 0 else 1)
    light, dim = network.cells(np.stack([image, blurred(image)]))
    np.testing.assert_allclose(found.values, sign * weights * (light - dim), atol=1e-12)
    share = float(dim @ weights)
    assert found.expected == pytest.approx(share if sign > 0 else 1 - share)


def test_the_network_runs_once_for_each_coalition_and_thrice_besides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = LinearNetwork(WEIGHTS)
    whole = attribution(network, _image(), COALITIONS)
    assert network.num_runs == len(COALITIONS.coalitions) + 3
    monkeypatch.setattr(attributions, "MAX_NUMBERS", 1)  # one at a time
    single = attribution(network, _image(), COALITIONS)
    assert whole is not None
    assert single is not None
    np.testing.assert_allclose(single.values, whole.values, atol=1e-12)


def test_a_network_that_gives_no_numbers_has_none() -> None:
    assert attribution(LinearNetwork(np.full(16, np.nan)), _image(), COALITIONS) is None


def test_nothing_to_explain_has_none() -> None:
    class Blind:
        kind, num_classes, size, sha256, has_embedding = "boxes", 2, SIZE, "ab", False

        def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
            boxes, scores = np.zeros((len(images), 1, 4)), np.zeros((len(images), 2, 1))
            return {"boxes": boxes, "scores": scores, "selected": np.zeros((0, 3), int)}

        def embed(self, images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            raise AssertionError(images)

    assert attribution(Blind(), _image(), COALITIONS) is None


@pytest.mark.parametrize(("second", "is_told"), [(10.0, True), (0.1, False)])
def test_the_first_pictures_of_a_sample_are_explained_and_a_long_wait_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    second: float,
    is_told: bool,
) -> None:
    sample, clock = Sample(SIZE, 30), count()
    for number in range(30):
        sample.offer(f"p{number}", number, _image(number).transpose(1, 2, 0))
    monkeypatch.setattr(attributions.time, "monotonic", lambda: second * next(clock))
    network = LinearNetwork(WEIGHTS)
    with caplog.at_level(logging.INFO):
        found = [*explain(network, sample, 20, COALITIONS)]
    assert [place for place, _ in found] == [place for place, _ in sample][:20]
    one = attribution(network, _image(found[3][0]), COALITIONS)
    assert found[3][1] is not None
    assert one is not None
    np.testing.assert_array_equal(found[3][1].values, one.values)
    told = caplog.text.count("attributions of 20 pictures take about 3 minutes; --attributions")
    assert told == is_told


def test_cells_are_numbered_by_row_and_as_even_as_can_be() -> None:
    numbers = cell_numbers((10, 6))
    assert numbers.shape == (10, 6)
    assert CELLS[numbers[0, -1]] == "cell_r1c4"
    assert CELLS[numbers[-1, 0]] == "cell_r4c1"
    assert np.unique(numbers).tolist() == list(range(16))
    assert np.bincount(numbers[:, 0] // 4).tolist() == [3, 2, 3, 2]
    assert len({tuple(row) for row in cell_numbers((3, 3)).tolist()}) == 3  # fewer pixels: no error


def test_a_blurred_picture_keeps_its_light_and_loses_its_edges() -> None:
    image = _image()
    soft = blurred(image)
    assert (soft.shape, soft.dtype) == (image.shape, np.uint8)
    assert soft.mean() == pytest.approx(image.mean(), abs=8)
    assert np.abs(np.diff(soft.astype(int))).mean() < np.abs(np.diff(image.astype(int))).mean() / 2
    plain = np.full((3, 9, 5), 77, np.uint8)
    np.testing.assert_array_equal(blurred(plain), plain)
