"""Exporting as the command does it."""

import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from quantised import unbalance_

from regrow.errors import CheckFailed
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.segmentation import Segmentation
from regrow.pipelines import commands
from regrow.reporting.run_folder import open_run
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


def test_int8_leaves_both_files_and_a_report(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "export"
    words = [str(dense), f"--run={run}", "--int8", f"--reference={dense}", "--budget.max_drop=0.2"]
    assert export.main(words) == 0
    assert sorted(f.name for f in run.glob("*.onnx")) == ["model.float.onnx", "model.onnx"]
    session = onnxruntime.InferenceSession(run / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["regrow.precision"] == '"int8"'
    task = load(dense)
    images = task.example_images(2)
    with torch.no_grad():
        expected = task.predict(task(images)).numpy()
    (given,) = session.run(["probabilities"], {"images": images.numpy()})
    np.testing.assert_allclose(given, expected, atol=0.1)
    assert np.abs(given - expected).max() > 1e-7
    figures = json.loads((run / "report.json").read_text())["int8"]
    assert figures["int8"]["bytes"] == (run / "model.onnx").stat().st_size
    assert figures["int8"]["bytes"] < 0.5 * figures["float"]["bytes"]
    assert figures["unpruned"]["budget"]["is_met"] is figures["float"]["budget"]["is_met"] is True
    assert "From unpruned: The budget is met." in capsys.readouterr().out
    assert "| INT8 |" in (run / "report.md").read_text()


def test_a_budget_that_int8_breaks_ends_with_3(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, run = load(dense), tmp_path / "export"
    unbalance_(task)
    save(dense, task)
    assert export.main([str(dense), f"--run={run}", "--int8"]) == 3
    assert "the budget of 0.01 is broken by INT8 on 24 test images" in capsys.readouterr().err
    names = sorted(file.name for file in run.glob("*.onnx"))
    assert names == ["model.float.onnx", "model.unverified.onnx"]
    figures = json.loads((run / "report.json").read_text())["int8"]
    assert (figures["float"]["score"], figures["int8"]["score"]) == (1, 0.5)
    assert figures["path"] == "model.unverified.onnx"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--calibration_images=0"], "calibration_images is 0, it must be at least 1"),
        (["--calibration_images=1"], "the 1 training image to calibrate on show"),
        (["--reference={other}"], "holds a segmentation network for masks, the data has labels"),
        (["--reference={missing}"], "no such checkpoint"),
    ],
)
def test_int8_that_cannot_be_had_ends_with_2(
    dense: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    run = open_run(tmp_path / "export")
    (run / "model.onnx").write_text("an earlier one")
    places = {"other": tmp_path / "other.ckpt", "missing": tmp_path / "missing.ckpt"}
    save(places["other"], Segmentation(["green", "red"], (32, 32), net_args={"width": 4}))
    more = [option.format(**places) for option in options]
    assert export.main([str(dense), f"--run={run}", "--int8", *more]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert [file.name for file in tmp_path.glob("export*")] == ["export"]
    assert (run / "model.onnx").read_text() == "an earlier one"


TRANSPOSED = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.ConvTranspose2d(3, num_classes, 2, 2)

    def forward(self, images):
        return self.head(images).mean((2, 3))
"""


def test_a_network_without_operators_for_int8_ends_with_2_before_a_run_is_moved(
    dense: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "transposed_net.py").write_text(TRANSPOSED)
    monkeypatch.syspath_prepend(tmp_path)
    own, run = tmp_path / "own" / "best.ckpt", tmp_path / "export"
    own.parent.mkdir()
    shutil.copyfile(dense.parent / "data.yaml", own.parent / "data.yaml")
    save(own, Classification(["green", "red"], (32, 32), net="transposed_net.Net"))
    (open_run(run) / "model.onnx").write_text("an earlier one")
    words = [str(own), f"--run={run}", "--int8", '--allow=["transposed_net"]']
    assert export.main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "ONNX Runtime has no INT8 kernel for what the network weighs with: ConvT" in line
    assert line.endswith("export it in float")
    assert [file.name for file in tmp_path.glob("export*")] == ["export"]
    assert [file.name for file in run.glob("*.onnx")] == ["model.onnx"]
