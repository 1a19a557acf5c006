"""The reference of a network: scores of pictures that made no mean, or words why there are none."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from networks import LinearNetwork

from regrow.errors import BadInput
from regrow.monitor.network import reference
from regrow.monitor.network.attribution_drift import EXPLAINED
from regrow.monitor.network.embeddings import EMBEDDED
from regrow.monitor.network.reference import ARRAYS, TURNED_OFF, NetworkReference

Made = tuple[NetworkReference, dict[str, np.ndarray]]
Build = Callable[..., Made]
WEIGHTS = np.full(16, 1 / 20)


def test_two_thirds_are_ranked_of_embeddings_and_all_of_attributions(build: Build) -> None:
    made, scores = build(90, num_explained=40)
    assert list(scores) == [*EMBEDDED, *EXPLAINED]
    assert {len(scores[name]) for name in EMBEDDED} == {60}
    assert {len(scores[name]) for name in EXPLAINED} == {40}
    assert made.independent == dict.fromkeys(EMBEDDED, 60) | dict.fromkeys(EXPLAINED, 40)
    assert made.reasons == {}
    assert all((np.diff(values) >= 0).all() for values in scores.values())


def test_clean_pictures_rank_evenly_among_the_reference(
    build: Build, picture: Callable[[int], np.ndarray]
) -> None:
    """Pictures that made the mean themselves would lie nearer to it than new ones."""
    network = LinearNetwork(WEIGHTS)
    made, scores = build(600, network, num_explained=0)
    assert made.embeddings is not None
    fresh = [picture(5000 + n).transpose(2, 0, 1) for n in range(400)]
    embedding, outputs = network.embed(np.stack(fresh))
    labels = outputs["probabilities"].argmax(axis=1)
    rows = [made.embeddings.of(own, int(n)) for own, n in zip(embedding, labels, strict=True)]
    for name in EMBEDDED:
        u = np.searchsorted(scores[name], [row[name] for row in rows]) / len(scores[name])
        assert abs(u.mean() - 0.5) < 4 * np.sqrt((1 / 400 + 1 / 400) / 12), name


def test_frames_of_one_video_are_on_one_side_and_count_once(build: Build) -> None:
    made, scores = build(300, num_explained=300, group=lambda number: str(number % 30))
    assert made.independent["embedding_distance"] == 20
    assert made.independent["cell_r1c1"] == 30
    assert len(scores["embedding_distance"]) == 200


def test_videos_of_unequal_lengths_are_worth_fewer_pictures(build: Build) -> None:
    # 40 videos of one frame each, and one of 20: 60^2 / (40 + 400) = 8.2 are too few, so nothing
    # is explained; with four of 5 frames it is 60^2 / (40 + 100) = 25.7.
    network = LinearNetwork(WEIGHTS)
    made, _ = build(60, network, group=lambda number: str(min(number, 40)))
    assert "8 independent pictures" in made.reasons["attributions"]
    assert network.num_runs == 60
    made, _ = build(60, group=lambda number: str(min(number, 40 + (number - 40) // 5)))
    assert made.independent["cell_r1c1"] == 25


@pytest.mark.parametrize(
    ("count", "words"), [(3, "2 independent"), (28, "19 independent pictures")]
)
def test_too_few_pictures_are_told_and_no_error(
    build: Build, caplog: pytest.LogCaptureFixture, count: int, words: str
) -> None:
    network = LinearNetwork(WEIGHTS)
    with caplog.at_level(logging.WARNING):
        made, scores = build(count, network)
    assert made.embeddings is None
    assert not {*EMBEDDED} & {*scores}
    assert f"embeddings are not watched: they are known of {words}" in caplog.text
    assert "besides the third that makes the means; 20 are needed" in caplog.text
    assert ("attributions are not watched" in caplog.text) == (count < 20)
    if count < 20:
        assert network.num_runs == count  # nothing is explained in vain


def test_embeddings_that_are_all_the_same_are_told(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LinearNetwork, "cells", lambda self, images: np.ones((len(images), 16)))
    made, scores = build(60)
    assert "the same embedding for every picture" in made.reasons["embeddings"]
    # No cell adds anything, so there are no shares either.
    assert scores == {}
    assert made.attributions is not None


def test_embeddings_that_are_not_finite_are_left_out(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LinearNetwork.embed
    calls = iter(range(10_000))

    def embed(self: LinearNetwork, images: np.ndarray) -> tuple[np.ndarray, object]:
        vectors, outputs = real(self, images)
        return (np.full_like(vectors, np.nan) if next(calls) % 2 else vectors), outputs

    monkeypatch.setattr(LinearNetwork, "embed", embed)
    made, scores = build(100, num_explained=0)
    assert made.independent["projection_0"] == len(scores["projection_0"]) == 34
    assert made.reasons == {"attributions": TURNED_OFF}
    monkeypatch.setattr(LinearNetwork, "embed", lambda s, x: (np.full((1, 16), np.inf), s.run(x)))
    assert "no embedding that is finite" in build(60)[0].reasons["embeddings"]


def test_a_network_without_features_is_told(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LinearNetwork, "has_embedding", False)
    with caplog.at_level(logging.WARNING):
        made, scores = build(60, num_explained=30)
    assert list(scores) == [*EXPLAINED]
    assert caplog.text.count("not watched: no features of a known kind are found") == 1
    assert made.embeddings is None


@pytest.mark.parametrize("num_explained", [0, 30])
def test_it_is_read_as_it_was_written_and_small(
    build: Build, tmp_path: Path, num_explained: int
) -> None:
    made, _ = build(60, num_explained=num_explained)
    about = made.write(tmp_path)
    found = NetworkReference.read(tmp_path, about)
    assert found.write(tmp_path) == about
    assert (found.attributions is None) == (num_explained == 0)
    assert (found.independent, found.reasons) == (made.independent, made.reasons)
    assert made.analysis().keys() == ({"explanations"} if num_explained else set())
    assert (tmp_path / ARRAYS).stat().st_size < 50_000


def test_wide_embeddings_of_many_classes_stay_small(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LinearNetwork, "num_classes", 100)
    real = LinearNetwork.embed

    def embed(self: LinearNetwork, images: np.ndarray) -> tuple[np.ndarray, object]:
        vectors, outputs = real(self, images)
        return np.tile(vectors, 32), outputs

    monkeypatch.setattr(LinearNetwork, "embed", embed)
    made, scores = build(300, num_explained=0)
    made.write(tmp_path)
    assert made.embeddings is not None
    assert made.embeddings.class_means.shape == (101, 512)
    assert (tmp_path / ARRAYS).stat().st_size < 300_000
    assert sum(values.nbytes for values in scores.values()) < 20_000  # scores, and no vectors


def _clocked(seconds: float, monkeypatch: pytest.MonkeyPatch) -> LinearNetwork:
    """Return a network each of whose runs takes so many seconds of the builder's clock."""
    network = LinearNetwork(WEIGHTS)
    monkeypatch.setattr(reference, "monotonic", lambda: network.num_runs * seconds)
    return network


def test_as_many_pictures_of_an_hour_are_explained_as_take_five_minutes(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        made, _ = build(60, _clocked(1.0, monkeypatch))
    # 32 coalitions, both ends, and the picture itself: 35 seconds.
    assert made.num_explained == 300 // 35
    assert "attributions of 8 pictures take about 5 minutes; runs compute no more" in caplog.text
    assert NetworkReference.read(tmp_path, made.write(tmp_path)).num_explained == 8
    about = made.write(tmp_path)
    del about["num_explained"]  # of an earlier version
    assert NetworkReference.read(tmp_path, about).num_explained is None


def test_where_one_picture_takes_over_five_minutes_none_is_explained(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network = _clocked(9.0, monkeypatch)
    with caplog.at_level(logging.WARNING):
        made, scores = build(60, network)
    assert (made.attributions, made.num_explained) == (None, None)
    assert not {*EXPLAINED} & {*scores}
    assert "those of one picture take 5.2 minutes, and those of an hour may" in caplog.text
    assert network.num_runs == 60 + 35  # nothing is explained in vain


def test_arrays_of_another_baseline_are_refused(build: Build, tmp_path: Path) -> None:
    about = build(60, num_explained=0)[0].write(tmp_path)
    (tmp_path / ARRAYS).write_bytes(b"others")
    with pytest.raises(BadInput, match=r"network\.npz: is not that of this baseline"):
        NetworkReference.read(tmp_path, about)
