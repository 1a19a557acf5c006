"""Exporting as the command does it."""

import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from regrow.errors import CheckFailed
from regrow.models.checkpoint import load, save
from regrow.pipelines import commands
from regrow.scripts import export

Words = Callable[..., list[str]]
Folder = Callable[..., Path]
Trained = Callable[..., Path]


@pytest.fixture
def dense(trained: Trained) -> Path:
    return trained("dense")


def test_the_file_gives_what_the_network_gives(dense: Path, tmp_path: Path) -> None:
    run = tmp_path / "export"
    report = commands.export([str(dense), f"--run={run}"])
    assert json.loads((run / "report.json").read_text()) == report.figures
    task = load(dense)
    session = onnxruntime.InferenceSession(run / "model.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = task.example_images(batch)
        with torch.no_grad():
            expected = task.predict(task(images)).numpy()
        (given,) = session.run(["probabilities"], {session.get_inputs()[0].name: images.numpy()})
        np.testing.assert_allclose(given, expected, atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["regrow.classes"]) == task.classes
    assert report.figures["onnx"]["num_images"] == 24


def test_what_was_trained_in_half_precision_is_exported_in_single(
    dense: Path, tmp_path: Path
) -> None:
    task = load(dense).bfloat16()
    save(dense, task)
    assert export.main([str(dense), f"--run={tmp_path / 'export'}"]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "export" / "model.onnx")
    images = task.example_images(2)
    (given,) = session.run(["probabilities"], {session.get_inputs()[0].name: images.numpy()})
    task.float()
    with torch.no_grad():
        np.testing.assert_allclose(given, task.predict(task(images)).numpy(), atol=1e-5)


def test_a_difference_ends_with_3_and_leaves_no_model(dense: Path, tmp_path: Path) -> None:
    run = tmp_path / "export"
    with pytest.raises(CheckFailed, match=r"report\.md"):
        commands.export([str(dense), f"--run={run}", "--tolerance=1e-30"])
    assert not (run / "model.onnx").exists()
    assert (run / "report.json").is_file()
    assert export.main([str(dense), f"--run={run}", "--tolerance=1e-30"]) == 3


PACKED = {
    "sagemaker": [
        "sagemaker/create_endpoint_config.json",
        "sagemaker/create_model.json",
        "sagemaker/model.tar.gz",
    ],
    "triton": ["model_repository/regrow/1/model.onnx", "model_repository/regrow/config.pbtxt"],
    "kserve": [
        "inference_service.yaml",
        "model_repository/regrow/1/model.onnx",
        "model_repository/regrow/config.pbtxt",
    ],
}
TO_SET = {
    "sagemaker": {"ACCOUNT", "ROLE", "BUCKET", "IMAGE"},
    "triton": set(),
    "kserve": {"BUCKET"},
}


def test_a_model_is_packed_for_each_platform(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "export"
    assert export.main([str(dense), f"--run={run}", "--max_images=4"]) == 0
    plain = {file.relative_to(run).as_posix() for file in run.rglob("*") if file.is_file()}
    model = (run / "model.onnx").read_bytes()
    for platform, expected in PACKED.items():
        capsys.readouterr()
        words = [str(dense), f"--run={tmp_path / platform}", "--max_images=4", "--for", platform]
        assert export.main(words) == 0
        said = capsys.readouterr().out
        folder = tmp_path / platform
        files = {file.relative_to(folder).as_posix() for file in folder.rglob("*")}
        made = {name for name in files if (folder / name).is_file()} - plain
        assert sorted(made) == expected
        assert all(str(folder / name) in said for name in expected)
        assert set(re.findall(r"YOUR_(\w+)", said)) == TO_SET[platform]
        for name in made:
            if name.endswith("model.onnx"):
                assert (folder / name).read_bytes() == model
    with tarfile.open(tmp_path / "sagemaker" / "sagemaker" / "model.tar.gz") as archive:
        packed = archive.extractfile("model.onnx")
        assert packed is not None
        assert packed.read() == model


def test_a_model_that_does_not_agree_is_not_packed(dense: Path, tmp_path: Path) -> None:
    words = [str(dense), f"--run={tmp_path / 'x'}", "--tolerance=1e-30", "--for=triton"]
    assert export.main(words) == 3
    assert not (tmp_path / "x" / "model_repository").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("for=torchserve", "['sagemaker', 'triton', 'kserve']"),
        ("max_images=0", "max_images is 0"),
        ("tolerance=-1", "tolerance is -1"),
        ("max_score_change=2", "max_score_change is 2"),
        ("data.size=[48, 48]", "is for images of (32, 32); set data.size to it"),
    ],
)
def test_what_cannot_be_used_ends_with_2(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, said: str
) -> None:
    words = [str(dense), f"--config={dense.parent / 'data.yaml'}", f"--run={tmp_path / 'export'}"]
    assert export.main([*words, f"--{option}"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "export").exists()


def test_a_missing_checkpoint_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(tmp_path / "no.ckpt")]) == 2
    assert "no.ckpt: no such checkpoint" in capsys.readouterr().err


def test_the_report_says_how_the_file_is_fed_and_read(dense: Path, tmp_path: Path) -> None:
    run = tmp_path / "out"
    figures = commands.export(
        [str(dense), f"--run={run}", "--input_type=float32", "--opset=17"]
    ).figures
    assert figures["opset"] == 17
    assert (figures["input"]["type"], figures["input"]["range"]) == ("float32", [0, 1])
    assert figures["outputs"].keys() == {"probabilities"}
    page = (run / "report.md").read_text()
    assert "| type | float32, from 0 to 1 |" in page
    assert "antialiased" in page
    assert "| operators | opset 17 |" in page


def test_operators_that_cannot_be_had_end_with_2(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(dense), f"--run={tmp_path / 'out'}", "--opset=9"]) == 2
    assert "opset 9: the network cannot be had in these" in capsys.readouterr().err
