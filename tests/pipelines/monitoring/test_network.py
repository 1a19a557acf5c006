"""The kept network answers as the served one does, and gives its embedding besides."""

import logging
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from watched_models import SIZE, TASKS

from regrow.deploy.serving.served_model import ServedModel
from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.monitor.network.served import Network
from regrow.pipelines.monitoring.keeping import keep_network_
from regrow.pipelines.monitoring.network import KeptNetwork

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, *SIZE), dtype=np.uint8)


@pytest.mark.parametrize("kind", TASKS)
def test_answers_stay_and_the_embedding_is_a_mean_over_the_map(
    models: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    file = Path(shutil.copy(models[kind], tmp_path / "network.onnx"))
    served, network = ServedModel(models[kind]), keep_network_(file)
    assert isinstance(network, Network)
    assert (network.kind, network.num_classes, network.size) == (kind, 3, SIZE)
    assert network.sha256 == file_hash(file) != served.sha256
    found, wanted = network.run(IMAGES), served.run(IMAGES)
    for name, values in found.items():
        np.testing.assert_allclose(values, wanted[name], rtol=1e-5, atol=1e-4)
    assert network.has_embedding
    vectors, outputs = network.embed(IMAGES)
    assert (vectors.shape, outputs.keys()) == ((3, 64), found.keys())
    one, _ = network.embed(IMAGES[:1])
    np.testing.assert_allclose(one, vectors[:1], rtol=1e-4, atol=1e-5)
    again, _ = KeptNetwork(file).embed(IMAGES)
    np.testing.assert_array_equal(again, vectors)


def test_a_graph_without_an_output_that_is_needed_is_told(
    models: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = onnx.load(models["masks"])
    kept = [output for output in model.graph.output if output.name != "logits"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, tmp_path / "network.onnx")
    with pytest.raises(BadInput, match=r"network\.onnx: has no output logits; export it again"):
        KeptNetwork(tmp_path / "network.onnx")
    with caplog.at_level(logging.WARNING):
        assert keep_network_(tmp_path / "network.onnx") is None
    assert "embeddings and attributions are not watched: " in caplog.text
