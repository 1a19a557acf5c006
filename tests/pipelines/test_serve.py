"""What `promoted.json` names is served only if it is the file that was promoted."""

import json
from pathlib import Path

import pytest

from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.pipelines.serve import promoted_model, run_server


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save(tmp_path / "a.ckpt", Classification(["a", "b"], (32, 32), net_args={"width": 4}))
    return tmp_path / "a.ckpt"


def named(checkpoint: Path, sha256: str | None) -> Path:
    file = checkpoint.with_name("promoted.json")
    file.write_text(json.dumps({"checkpoint": "a.ckpt", "sha256": sha256, "refused": None}))
    return file


def test_the_file_that_was_promoted_is_served(checkpoint: Path) -> None:
    for sha256 in (file_hash(checkpoint), None):
        assert promoted_model(named(checkpoint, sha256)) == checkpoint


def test_another_file_of_its_name_is_not(checkpoint: Path) -> None:
    with pytest.raises(BadInput, match="a.ckpt is not the file that was promoted"):
        promoted_model(named(checkpoint, "0" * 64))
    file = named(checkpoint, None)
    checkpoint.unlink()
    with pytest.raises(BadInput, match="a.ckpt, which is not there; promote a network again"):
        promoted_model(file)
    file.unlink()
    with pytest.raises(BadInput, match="is not there, so no network is promoted"):
        promoted_model(file)


def test_a_server_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="there is no model to serve; name one"):
        run_server(None, port=0)


@pytest.mark.parametrize("sample", [-0.1, 20, float("nan")])
def test_a_sample_that_is_no_share_is_refused(sample: float) -> None:
    with pytest.raises(BadInput, match="sample is .*, it must be 0 to 1"):
        run_server(Path("model.onnx"), port=0, sample=sample)
