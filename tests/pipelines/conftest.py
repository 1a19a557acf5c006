"""Models in the form in which they are served."""

from pathlib import Path

import pytest
from watched_models import TASKS, untrained_task

from regrow.models.onnx.graph import export_graph
from regrow.monitor.network import reference


@pytest.fixture(autouse=True)
def _few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Explain a picture by 32 runs of a network and not by 200: enough for a file with figures."""
    monkeypatch.setattr(reference, "NUM_RUNS", 32)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        kind: export_graph(untrained_task(kind), folder / kind / "model.onnx") for kind in TASKS
    }
