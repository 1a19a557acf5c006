"""A job's options become one training and one export, and a server that is told what it serves."""

import json
from inspect import signature
from pathlib import Path

import pytest

from regrow.deploy.sagemaker.options import TrainingCall
from regrow.errors import BadInput, CheckFailed
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.pipelines import sagemaker
from regrow.pipelines.train import run_training

SHORT = {
    "data.max_images": 16,
    "data.batch_size": 8,
    "fit.epochs": 1,
    "task.net": "small",
    "task.net_args": {"width": 4},
    "task.optimization.lr": 0,
}


@pytest.fixture
def call(tmp_path: Path) -> TrainingCall:
    options = SHORT | {"run": str(tmp_path / "run")}
    return TrainingCall(sagemaker.CONFIGS / "classification.yaml", options)


def test_a_hyperparameter_may_be_any_option_of_a_training() -> None:
    assert {"task", "data", "fit", "warm_start", "seed"} <= {*sagemaker.OPTIONS}
    own = {*signature(run_training).parameters} - {*sagemaker.OPTIONS}
    assert own == {"settings", "command_line"}


def test_a_jobs_options_train_over_its_config(call: TrainingCall, tmp_path: Path) -> None:
    report = sagemaker._train(call)
    task = load(tmp_path / "run" / "best.ckpt")
    assert task.net_args == {"width": 4}
    # The command that a person can type for the same run.
    config = sagemaker.CONFIGS / "classification.yaml"
    assert report.figures["command"].startswith(
        f"python scripts/train.py --config={config} --data.max_images=16 --data.batch_size=8 "
    )
    assert task.provenance.settings["fit.epochs"] == 1


def test_a_job_whose_gate_is_shut_fails(call: TrainingCall, tmp_path: Path) -> None:
    call.options["gate.floor"] = 1.0
    with pytest.raises(CheckFailed, match="^not to be served: "):
        sagemaker._train(call)
    assert (tmp_path / "run" / "report.json").is_file()


def test_a_jobs_network_is_exported_on_the_data_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, run = tmp_path / "best.ckpt", tmp_path / "export"
    save(file, Classification(["a", "b"], (32, 32), net_args={"width": 4}))
    with pytest.raises(BadInput, match=r"data\.yaml: not there, so name the data"):
        sagemaker._export(file, run)
    calls: list[dict[str, object]] = []
    monkeypatch.setattr(
        sagemaker, "run_export", lambda *args, **own: calls.append(own | {"": args})
    )
    sagemaker._export(file, run)
    line = f"python scripts/export.py {file} --run={run}"
    assert calls == [{"": (file,), "run": run, "command_line": line}]


def test_a_job_that_asks_for_what_is_no_option_says_why_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sagemaker, "stop_with_parent", lambda: None)
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    (tmp_path / "output").mkdir()
    asked = {"config": "classification", "fit.epohcs": "1"}
    (config / "hyperparameters.json").write_text(json.dumps(asked))
    with pytest.raises(BadInput, match=r"fit\.epohcs") as failed:
        sagemaker.train_job(["--fit.epohcs", "1"])
    written = (tmp_path / "output" / "failure").read_text()
    assert written.splitlines()[0] == str(failed.value)


def test_an_endpoint_without_a_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    with pytest.raises(BadInput, match=f"^{tmp_path / 'model'}: there is no model in it; the"):
        sagemaker.serve_endpoint()
    # Where models are loaded by name, their folder must be there.
    monkeypatch.setenv("SAGEMAKER_MULTI_MODEL", "true")
    with pytest.raises(BadInput, match=f"^models is {tmp_path / 'models'}, which is no folder$"):
        sagemaker.serve_endpoint()


@pytest.mark.parametrize(
    ("variables", "max_body", "payload"),
    [
        ({}, 2**24, 6),
        ({"SAGEMAKER_BATCH": "true", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "30"}, 30 * 2**20, 30),
    ],
)
def test_an_endpoint_takes_bodies_as_large_as_the_platform_sends(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    max_body: int,
    payload: int,
) -> None:
    served: dict[str, object] = {}

    def serve(model: Path, host: str, port: int, **options: object) -> None:
        served.update(options, model=model, address=(host, port))

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").touch()
    for name, value in {"SAGEMAKER_BASE_DIR": str(tmp_path), **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sagemaker, "run_server", serve)
    sagemaker.serve_endpoint()
    assert served.pop("fixed") == {
        "/execution-parameters": {
            "MaxConcurrentTransforms": 4,
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": payload,
        }
    }
    assert served == {
        "model": tmp_path / "model",
        "models": None,
        "address": ("0.0.0.0", 8080),
        "max_body": max_body,
    }
