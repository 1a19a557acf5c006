"""The probe of an hour: the same scores as in the reference, of a bounded sample."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import LinearNetwork

from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.monitor.network.attribution_drift import EXPLAINED
from regrow.monitor.network.attributions import CELLS
from regrow.monitor.network.embeddings import EMBEDDED
from regrow.monitor.network.probe import NO_PICTURES, Findings, Probe, open_probe
from regrow.monitor.network.reference import NetworkReference

Picture = Callable[[int], np.ndarray]
Build = Callable[..., tuple[NetworkReference, dict[str, np.ndarray]]]
WEIGHTS = np.array([1, 1, 1, 1, 1, 4, 4, 1, 1, 4, 4, 1, 1, 1, 1, 1]) / 30


def _look(
    build: Build,
    picture: Picture,
    counts: tuple[int, int] = (50, 10),
    num_pictures: int = 80,
    network: LinearNetwork | None = None,
) -> Findings:
    own = network or LinearNetwork(WEIGHTS)
    probe = Probe(own, build(90)[0], *counts)
    sample = probe.sample()
    for number in range(num_pictures):
        sample.offer(f"e{number}", number, picture(number))
    return probe.look(sample)


def test_scores_are_those_of_the_reference_for_the_same_pictures(
    build: Build, picture: Picture
) -> None:
    found = _look(build, picture, (90, 90), 90)
    _, before = build(90, num_explained=90)
    assert found.scores.keys() == before.keys()
    for name, values in before.items():
        # Of embeddings a third of the pictures is not in the reference.
        assert {*values.tolist()} <= {*found.scores[name].tolist()}, name


def test_a_part_is_embedded_and_a_part_of_it_explained(build: Build, picture: Picture) -> None:
    network = LinearNetwork(WEIGHTS)
    found = _look(build, picture, network=network)
    assert len(found.places) == len({*found.places.tolist()}) == 50
    for names, count in ((EMBEDDED, 50), (EXPLAINED, 10)):
        for name in names:
            assert np.isfinite(found.scores[name]).sum() == count
            assert np.isfinite(found.scores[name][:count]).all()
    assert network.num_runs == 50 + 10 * (32 + 3)
    assert found.embeddings == {"num_pictures": 50, "num_unusable": 0, "reason": ""}
    assert (found.attribution["num_pictures"], found.attribution["num_unusable"]) == (10, 0)
    assert list(found.attribution["cells"]) == list(CELLS)
    assert found.analysis()["explanations"]["kernel_shap"]["label0"]["global_shap_values"] == {
        name: own["now"] for name, own in found.attribution["cells"].items()
    }
    assert found.violations() == []


def test_no_more_are_explained_than_the_reference_allows(build: Build, picture: Picture) -> None:
    network, found = LinearNetwork(WEIGHTS), []
    for most, asked, offered in ((8, 10, 80), (8, 10, 5), (8, 8, 80), (None, 10, 80)):
        reference = replace(build(90)[0], num_explained=most)
        probe = Probe(network, reference, 50, asked)
        sample = probe.sample()
        for number in range(offered):
            sample.offer(f"e{number}", number, picture(number))
        own = probe.look(sample).attribution
        found.append((own["num_pictures"], own.get("bound")))
    bound = "more would take over 5 minutes of every hour"
    assert found == [(8, bound), (5, None), (8, None), (10, None)]


def test_a_million_pictures_cost_no_more_than_the_sample(build: Build, picture: Picture) -> None:
    runs = []
    for count in (60, 600):
        network = LinearNetwork(WEIGHTS)
        _look(build, picture, (50, 10), count, network)
        runs.append(network.num_runs)
    assert runs[0] == runs[1]


def test_another_network_behind_the_same_pictures_is_drift_for_sagemaker(
    build: Build, picture: Picture
) -> None:
    corner = np.zeros(16)
    corner[15] = 1
    found = _look(build, picture, network=LinearNetwork(corner))
    (violation,) = found.violations()
    assert violation["constraint_check_type"] == "feature_attribution_drift_check"
    assert (violation["label"], violation["metric_name"]) == ("label0", "shap")
    assert "exceeds threshold 0.9 (descriptive" in violation["description"]
    assert found.attribution["distance"] > found.attribution["by_chance"]


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ((0, 10), ("turned off by --embeddings 0", "")),
        ((10, 0), ("", "turned off by --attributions 0")),
    ],
)
def test_what_is_turned_off_is_told(
    build: Build, picture: Picture, counts: tuple[int, int], told: tuple[str, str]
) -> None:
    found = _look(build, picture, counts)
    assert (found.embeddings["reason"], found.attribution["reason"]) == told
    assert len(found.places) == 10


def test_an_hour_without_pictures_is_told(build: Build, picture: Picture) -> None:
    found = _look(build, picture, num_pictures=0)
    assert found.embeddings["reason"] == found.attribution["reason"] == NO_PICTURES
    assert {len(values) for values in found.scores.values()} == {0}
    assert found.analysis() == {}


def test_what_the_reference_does_not_watch_is_told_with_its_reason(
    build: Build, picture: Picture
) -> None:
    probe = Probe(LinearNetwork(WEIGHTS), build(25)[0], 50, 10)
    sample = probe.sample()
    sample.offer("e", 0, picture(1))
    found = probe.look(sample)
    assert "17 independent pictures besides the third" in found.embeddings["reason"]
    assert found.attribution["num_pictures"] == 1


def test_pictures_that_cannot_be_used_are_counted(build: Build, picture: Picture) -> None:
    found = _look(build, picture, (20, 20), network=LinearNetwork(np.full(16, np.nan)))
    assert found.attribution == {"num_pictures": 20, "num_unusable": 20, "reason": ""}
    assert found.embeddings["num_unusable"] == 0
    assert found.analysis() == {}


def test_the_network_of_the_baseline_is_opened_and_no_other(build: Build, tmp_path: Path) -> None:
    file = tmp_path / "network.onnx"
    file.write_bytes(b"the network")
    network = LinearNetwork(WEIGHTS, file_hash(file))
    reference, opened = build(60, network)[0], list[Path]()

    def open_network(path: Path) -> LinearNetwork:
        opened.append(path)
        return network

    assert open_probe(tmp_path, open_network, reference, 0, 0) is None
    assert isinstance(open_probe(tmp_path, open_network, reference, 1, 0), Probe)
    assert opened == [file]
    for content in (b"another", None):
        file.unlink()
        if content:
            file.write_bytes(content)
        with pytest.raises(BadInput, match=r"network\.onnx: is not that of this baseline.*--emb"):
            open_probe(tmp_path, open_network, reference, 1, 1)
    assert opened == [file]
