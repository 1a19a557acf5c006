"""Scores of embeddings: worked by hand, and words where there is nothing to compare."""

import numpy as np
import pytest

from regrow.errors import BadInput
from regrow.monitor.network.embeddings import EMBEDDED, EmbeddingScores, fit_embeddings

# Two channels of mean 2 and 10, standard deviation 1 and 2.
VECTORS = np.array([[1, 8], [3, 8], [1, 12], [3, 12]], np.float32)


def _fitted(**own: object) -> EmbeddingScores:
    given = {"embeddings": VECTORS, "labels": np.array([0, 0, 1, 1]), "num_classes": 2, "seed": 7}
    return fit_embeddings(**given | own)  # type: ignore[arg-type]


def test_the_distance_is_worked_by_hand() -> None:
    """Class 0 has the standardised mean (0, -1), drawn to 0 by the weight of a third picture."""
    made = _fitted()
    np.testing.assert_allclose(made.class_means, [[0, -2 / 3], [0, 2 / 3], [0, 0]], atol=1e-6)
    vector = np.array([4.0, 14.0])  # standardised (2, 2)
    for label, centre in enumerate((-2 / 3, 2 / 3, 0)):
        wanted = np.hypot(2, 2 - centre) / 2**0.5
        assert made.of(vector, label)["embedding_distance"] == pytest.approx(wanted, rel=1e-6)


def test_projections_are_linear_and_have_the_deviation_of_one() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(5, [1, 3, 0.1, 7], (500, 4)).astype(np.float32)
    made = _fitted(embeddings=vectors, labels=np.zeros(500, int))
    rows = np.array([list(made.of(own, 0).values())[1:] for own in vectors])
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(rows.std(axis=0), 1, rtol=1e-4)
    middle = made.of((vectors[0] + vectors[1]) / 2, 0)
    np.testing.assert_allclose(list(middle.values())[1:], (rows[0] + rows[1]) / 2, atol=1e-5)
    again = _fitted(embeddings=vectors, labels=np.zeros(500, int), seed=8)
    assert not np.allclose(again.directions, made.directions)
    same = _fitted(embeddings=vectors, labels=np.zeros(500, int))
    np.testing.assert_array_equal(same.directions, made.directions)


def test_a_channel_that_was_always_zero_does_not_outweigh_all_others() -> None:
    vectors = np.random.default_rng(0).normal(size=(100, 10))
    vectors[:, 9] = 0
    made = _fitted(embeddings=vectors.astype(np.float32), labels=np.zeros(100, int))
    near, far = np.zeros(10), np.eye(10)[9]
    assert made.of(far, 0)["embedding_distance"] > made.of(near, 0)["embedding_distance"] + 1
    assert made.of(far, 0)["embedding_distance"] < 10


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_has_no_scores(value: float) -> None:
    found = _fitted().of(np.array([value, 1.0]), 0)
    assert list(found) == list(EMBEDDED)
    assert not np.isfinite(list(found.values())).any()


@pytest.mark.parametrize("value", [0.0, 1.0, -3e7])
def test_the_same_embedding_for_every_picture_is_said(value: float) -> None:
    with pytest.raises(BadInput, match="gives the same embedding for every picture"):
        _fitted(embeddings=np.full((4, 3), value, np.float32))


def test_it_is_read_as_it_was_written_and_gives_the_same_scores() -> None:
    made = _fitted()
    found = EmbeddingScores.from_arrays(made.arrays())
    vector = np.array([0.3, 11.7], np.float32)
    assert found.of(vector, 1) == made.of(vector, 1)
    with pytest.raises(KeyError, match="embedding_spread"):
        EmbeddingScores.from_arrays({"embedding_mean": np.zeros(3)})


@pytest.mark.parametrize("name", ["mean", "spread", "class_means", "directions"])
def test_arrays_of_other_shapes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="arrays of other shapes"):
        EmbeddingScores.from_arrays(_fitted().arrays() | {f"embedding_{name}": np.zeros(5)})
