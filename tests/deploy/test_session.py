"""A session gives what the served model gives, and needs no PyTorch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from regrow.deploy.runtime import OnnxModel
from regrow.deploy.session import CPU, CUDA, Session

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
ALONE = """
import sys
from pathlib import Path
import numpy as np
from regrow.deploy.session import Session
session = Session(Path(sys.argv[1]))
found = session.run(session.as_input(np.zeros((1, 3, 32, 32), np.uint8)))
assert found["probabilities"].shape == (1, 2)
assert not {"torch", "onnx"} & sys.modules.keys()
"""


def test_a_session_gives_what_the_model_with_pytorch_gives(path: Path) -> None:
    session, model = Session(path, num_threads=1), OnnxModel(path, num_threads=1)
    found = session.run(session.as_input(IMAGES), ["probabilities"])
    np.testing.assert_array_equal(found["probabilities"], model(IMAGES)["probabilities"])
    assert (session.kind, session.classes, session.size) == ("labels", ["a", "b"], (32, 32))


def test_a_session_needs_no_pytorch(path: Path) -> None:
    subprocess.run([sys.executable, "-c", ALONE, str(path)], check=True)


@pytest.mark.parametrize(("asked", "expected"), [("3", 3), ("", None), ("0", None), ("all", None)])
def test_the_threads_are_those_asked_for_or_one_for_each_processor(
    path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, expected: int | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
    options = Session(path).session.get_session_options()
    assert options.intra_op_num_threads == (expected or 2)


def test_cuda_is_taken_where_onnx_runtime_has_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    opened = onnxruntime.InferenceSession

    def noting(file: str, options: object, providers: list) -> onnxruntime.InferenceSession:
        taken.append(providers)
        return opened(file, options, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "InferenceSession", noting)
    for available in ([CPU], [CUDA[0], CPU]):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda own=available: own)
        Session(path)
    assert taken == [[CPU], [CUDA, CPU]]
