"""The graph that is kept for the monitor is the served one, with its embedding if it has one."""

import shutil
from pathlib import Path

import pytest

from regrow.pipelines.monitoring.keeping import keep_network_


def test_without_features_the_network_is_kept_as_it_is(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(shutil.copy(models["labels"], tmp_path / "network.onnx"))
    monkeypatch.setattr("regrow.pipelines.monitoring.keeping.with_embedding", lambda model: None)
    network = keep_network_(file)
    assert network is not None
    assert not network.has_embedding
    assert file.read_bytes() == models["labels"].read_bytes()
