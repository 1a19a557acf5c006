"""What the platform says becomes a command line, and what a run leaves goes where it looks."""

import ctypes
import json
import signal
import sys
import tarfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from regrow.data.source import Source
from regrow.deploy.sagemaker.training_job import (
    Container,
    base_folder,
    run_container,
    stop_with_parent,
    write_failure,
)
from regrow.errors import BadInput, CheckFailed
from regrow.guard import ExitCode
from regrow.models.checkpoint import save
from regrow.models.classification import Classification

Job = Callable[..., Container]
ImageFolder = "--data.source=regrow.data.formats.ImageFolder"


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """Give a folder of configs: one on the built-in sample, one on a set of its own."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "sample.yaml").write_text("data: {source: {class_path: regrow.data.sample.Digits}}")
    (folder / "own.yaml").write_text("data: {source: regrow.data.formats.Coco}")
    return folder


@pytest.fixture
def job(base: Path, configs: Path) -> Job:
    """Give a maker of jobs: hyperparameters, channels (with their folders), more files."""

    def make(
        hyperparameters: dict[str, str] | None = None, *channels: str, **files: Any
    ) -> Container:
        described = {name: {"TrainingInputMode": "File"} for name in channels}
        for name in channels:
            (base / "input" / "data" / name).mkdir(parents=True, exist_ok=True)
        contents = {"hyperparameters": hyperparameters or {}, "inputdataconfig": described}
        for name, content in {**contents, **files}.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (base / "input" / "config" / f"{name}.json").write_text(text)
        return Container.from_environment(configs)

    return make


def checkpoint(path: Path, step: int) -> None:
    """Write what counts as a checkpoint of a training run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    task = Classification(["a", "b"], (32, 32), net_args={"width": 4})
    save(path, task)
    state = {"global_step": step, "epoch": 1, "loops": {}, "callbacks": {}}
    state |= {"optimizer_states": [], "lr_schedulers": []}
    torch.save(torch.load(path) | state, path)


def test_the_base_is_the_platforms_unless_the_environment_says_so() -> None:
    assert base_folder({}) == Path("/opt/ml")
    assert base_folder({"SAGEMAKER_BASE_DIR": "/tmp/ml"}) == Path("/tmp/ml")


def test_a_container_without_files_has_no_words(tmp_path: Path) -> None:
    made = Container.from_environment(tmp_path, {"SAGEMAKER_BASE_DIR": str(tmp_path / "ml")})
    assert (made.hyperparameters, made.channels, made.hosts) == ({}, {}, ("algo-1",))
    assert made.checkpoints == tmp_path / "ml" / "checkpoints"


def test_without_a_list_of_channels_each_folder_of_data_is_one(job: Job, base: Path) -> None:
    job({}, "train")
    (base / "input" / "config" / "inputdataconfig.json").unlink()
    (base / "input" / "data" / "test").mkdir()
    (base / "input" / "data" / "note.txt").write_text("no folder")
    data = base / "input" / "data"
    made = Container.from_environment(base, {"SAGEMAKER_BASE_DIR": str(base)})
    assert made.channels == {"test": data / "test", "train": data / "train"}


def test_hyperparameters_are_text_and_mean_what_it_says(job: Job, base: Path) -> None:
    values = {
        "config": '"sample"',  # as the SDK writes a string
        "fit.epochs": "3",
        "task.optimization.lr": "1e-3",
        "data.size": "[48, 64]",
        "data.skip_corrupt": "true",
        "fit.patience": "null",
        "renamed": '{"old": "new"}',
        "run-name": "a b",
        "sagemaker_program": '"sagemaker_entry.py"',
        "_tuning_objective_metric": "val/accuracy",
    }
    assert job(values).arguments()[1:] == [
        "--data.size=[48, 64]",
        "--data.skip_corrupt=true",
        "--fit.epochs=3",
        "--fit.patience=null",
        '--renamed={"old": "new"}',
        "--run-name=a b",
        "--task.optimization.lr=0.001",
        f"--run={base / 'checkpoints' / 'run'}",
    ]


def test_checkpoints_go_where_the_platform_saves_them(job: Job, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    made = job({"config": "sample"}, checkpointconfig={"LocalPath": str(other)})
    assert made.arguments()[-1] == f"--run={other / 'run'}"


@pytest.mark.parametrize("name", ["sample", "sample.yaml"])
def test_a_config_goes_by_its_name(job: Job, configs: Path, name: str) -> None:
    assert job({"config": name}).arguments()[0] == f"--config={configs / 'sample.yaml'}"


def test_a_config_of_the_source_folder_goes_by_its_path(job: Job, tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("data: {source: {class_path: regrow.data.sample.Digits}}")
    assert job({"config": str(own)}).arguments()[0] == f"--config={own}"


def test_one_channel_is_the_data_and_several_are_its_splits(job: Job, base: Path) -> None:
    data = base / "input" / "data"
    config = {"config": "sample"}
    assert job(config, "training").arguments()[1:3] == [
        f"--data.root={data / 'training'}",
        ImageFolder,
    ]
    several = job(config, "train", "validation", "test").arguments()
    assert several[1:3] == [f"--data.root={data}", ImageFolder]


def test_what_the_job_says_of_its_data_is_not_overruled(job: Job, base: Path) -> None:
    root = f"--data.root={base / 'input' / 'data' / 'train'}"
    given = job({"config": "sample", "data.source": "mine.Source"}, "train").arguments()
    assert given[1:3] == [root, "--data.source=mine.Source"]
    deeper = job({"config": "sample", "data.source.file": "a.csv"}, "train").arguments()
    assert deeper[1:3] == [root, "--data.source.file=a.csv"]
    own = job({"config": "own"}, "train").arguments()
    assert own[1] == root
    assert not any(word.startswith("--data.source") for word in own)
    elsewhere = job({"config": "sample", "data.root": "/data"}, "train").arguments()
    assert elsewhere[1:2] == ["--data.root=/data"]
    assert not any(word.startswith("--data.source") for word in elsewhere)


@pytest.mark.parametrize("text", ["fit: {epochs: 1}", "[", "data: {source: }"])
def test_a_config_without_a_source_gets_one(job: Job, tmp_path: Path, text: str) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(text)
    assert ImageFolder in job({"config": str(own)}, "train").arguments()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("labels.csv", "ManifestFile"),
        ("labels.jsonl", "ManifestFile"),
        ("output.manifest", "ManifestFile"),
        ("train/labels.csv", "ManifestFile"),
        ("annotations/instances.json", "Coco"),
        ("Annotations/1.xml", "Voc"),
        ("classes.json", "Masks"),
        ("cat/1.png", "ImageFolder"),
    ],
)
def test_the_files_of_a_channel_tell_its_format(job: Job, base: Path, file: str, name: str) -> None:
    path = base / "input" / "data" / "train" / file
    path.parent.mkdir(parents=True)
    path.touch()
    word = job({"config": "sample"}, "train").arguments()[2]
    module, _, found = word.removeprefix("--data.source=").rpartition(".")
    assert found == name
    assert issubclass(getattr(import_module(module), found), Source)


def test_the_model_channel_is_the_warm_start(job: Job, base: Path) -> None:
    held = base / "input" / "data" / "model" / "best.ckpt"
    checkpoint(held, 1)
    for name in ("warm_start", "warm-start"):
        words = job({"config": "sample", name: "other.ckpt"}, "model").arguments()
        assert [w for w in words if "start" in w] == [f"--warm_start={held}"]
    words = job({"config": "sample", "warm_start": "other.ckpt"}).arguments()
    assert "--warm_start=other.ckpt" in words


@pytest.fixture
def packed(base: Path) -> Path:
    """Give an archive in the channel `model`, of a checkpoint and a memory."""
    archive = base / "input" / "data" / "model" / "model.tar.gz"
    checkpoint(base / "earlier" / "best.ckpt", 1)
    (base / "earlier" / "memory").mkdir()
    (base / "earlier" / "memory" / "snapshot.json").write_text("{}")
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(base / "earlier", ".")
    return archive


@pytest.mark.parametrize("is_resumed", [False, True])
def test_an_archive_of_an_earlier_job_is_unpacked_at_every_start(
    job: Job, base: Path, packed: Path, is_resumed: bool
) -> None:
    """A run that goes on in a fresh container needs the old network and the memory as well."""
    if is_resumed:
        checkpoint(base / "checkpoints" / "run" / "last.ckpt", 9)
    words = job({"config": "sample"}, "model").arguments()
    parent = base / "earlier_job" / "warm_start.ckpt"
    assert (f"--warm_start={parent}" in words) is not is_resumed
    assert parent.read_bytes() == (base / "earlier" / "best.ckpt").read_bytes()
    assert (parent.parent / "memory" / "snapshot.json").read_text() == "{}"


def test_only_the_first_process_of_several_unpacks(
    job: Job, base: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job({"config": "sample"}, "model")
    monkeypatch.setenv("LOCAL_RANK", "1")
    parent = base / "earlier_job" / "warm_start.ckpt"
    assert f"--warm_start={parent}" in made.arguments()
    assert not parent.exists()


def test_a_job_that_cannot_go_on_is_told_of_its_checkpoints(
    job: Job, base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkpoint(base / "checkpoints" / "run" / "last.ckpt", 9)
    configs = job({"config": "sample"}).configs
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))

    def refuse(words: list[str]) -> None:
        raise BadInput("--resume cannot change fit.epochs from 3 to 4")

    with pytest.raises(BadInput, match="fit.epochs from 3 to 4; .* another S3 location"):
        run_container(refuse, refuse, configs)


def test_an_interrupted_run_goes_on_and_begins_no_second_time(job: Job, base: Path) -> None:
    run = base / "checkpoints" / "run"
    checkpoint(run / "best.ckpt", 5)
    checkpoint(run / "last.ckpt", 9)
    checkpoint(base / "input" / "data" / "model" / "best.ckpt", 1)
    words = job({"config": "sample", "warm_start": "other.ckpt"}, "model").arguments()
    assert words[-2:] == [f"--run={run}", f"--resume={run / 'last.ckpt'}"]
    assert not any("warm" in word for word in words)


def test_a_run_stopped_while_channels_were_back_goes_on(job: Job, base: Path) -> None:
    run = base / "checkpoints" / "run"
    checkpoint(run / "wide" / "last.ckpt", 5)
    checkpoint(base / "input" / "data" / "model" / "best.ckpt", 1)
    words = job({"config": "sample"}, "model").arguments()
    assert words[-2:] == [f"--run={run}", "--resume=auto"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"hyperparameters": "{"}, r"hyperparameters\.json: not JSON"),
        ({"resourceconfig": "[]"}, r"resourceconfig\.json: holds a list; expected a JSON object"),
        ({"inputdataconfig": {"train": {"TrainingInputMode": "Pipe"}}}, "channel train: in Pipe"),
        ({"inputdataconfig": {"train": {}}}, "channel train: .*train is not there"),
    ],
)
def test_files_that_cannot_be_used_are_named(job: Job, files: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        job(**files)


@pytest.mark.parametrize(
    ("hyperparameters", "channels", "message"),
    [
        ({}, [], "hyperparameter config: not given; give one of own, sample"),
        ({"config": "smaple"}, [], "there is no file smaple; .* one of own, sample"),
        ({"config": "sample", "run": "x"}, [], "hyperparameter run: the container sets it"),
        ({"config": "sample", "resume": "auto"}, [], "hyperparameter resume: the container"),
        ({"config": "sample"}, ["test"], "has the channels test; name that of the training"),
        ({"config": "sample"}, ["model"], "needs one checkpoint"),
    ],
)
def test_jobs_that_cannot_be_run_are_refused(
    job: Job, hyperparameters: dict[str, str], channels: list[str], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        job(hyperparameters, *channels).arguments()


def test_several_machines_are_refused(job: Job) -> None:
    hosts = {"hosts": ["algo-1", "algo-2"]}
    with pytest.raises(BadInput, match="the job has 2 machines.*set the instance count to 1"):
        job({"config": "sample"}, resourceconfig=hosts).arguments()


class Run:
    """Stands for training and export: writes what they write, and notes their words."""

    def __init__(self, base: Path, error: BaseException | None = None) -> None:
        self.folder, self.error = base / "checkpoints" / "run", error
        self.words: list[list[str]] = []

    def train(self, words: list[str]) -> None:
        self.words.append(words)
        self.folder.mkdir(parents=True)
        (self.folder / "best.ckpt").write_bytes(b"weights")
        if self.error is not None:
            raise self.error
        (self.folder / "report.md").write_text("# Training")
        (self.folder / "report.json").write_text(json.dumps({"score": 0.5, "onnx": None}))

    def export(self, words: list[str]) -> None:
        self.words.append(words)
        (self.folder / "export").mkdir()
        (self.folder / "export" / "model.onnx").write_bytes(b"graph")
        figures = {"score": 0.4, "onnx": {"is_equal": True}}
        (self.folder / "export" / "report.json").write_text(json.dumps(figures))


def delivered(base: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (base / "model").glob("*")}


def test_a_job_trains_exports_and_delivers(
    job: Job, base: Path, configs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = job({"config": "sample", "fit.epochs": "1"}).arguments()
    stale = base / "output" / "failure"
    stale.parent.mkdir()
    stale.write_text("of the start before")
    run = Run(base)
    run_container(run.train, run.export, configs)
    best = run.folder / "best.ckpt"
    assert run.words == [words, [str(best), f"--run={run.folder / 'export'}"]]
    files = delivered(base)
    figures = json.loads(files.pop("report.json"))
    assert figures == {"score": 0.5, "onnx": {"is_equal": True}}
    assert files == {
        "best.ckpt": b"weights",
        "model.onnx": b"graph",
        "report.md": b"# Training",
    }
    assert not stale.exists()
    assert "--fit.epochs=1" in capsys.readouterr().out


def test_only_the_first_process_of_several_delivers(
    job: Job, base: Path, configs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job({"config": "sample"})
    monkeypatch.setenv("LOCAL_RANK", "1")
    run = Run(base)
    run_container(run.train, run.export, configs)
    assert len(run.words) == 1
    assert not (base / "model").exists()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (BadInput("fit.epochs is 0\nit must be > 0"), "fit.epochs is 0 it must be > 0"),
        (CheckFailed("they differ"), "they differ"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_the_cause_of_a_failure_is_its_first_line(
    job: Job, base: Path, configs: Path, error: Exception, line: str
) -> None:
    job({"config": "sample"})
    run = Run(base, error)
    with pytest.raises(type(error)):
        run_container(run.train, run.export, configs)
    first, empty, traceback, *_ = (base / "output" / "failure").read_text().splitlines()
    assert (first, empty) == (line, "")
    assert traceback.startswith("Traceback")
    assert len(run.words) == 1


def test_a_job_that_cannot_be_read_says_so(job: Job, base: Path, configs: Path) -> None:
    job()
    with pytest.raises(BadInput, match="config: not given"):
        run_container(lambda words: None, lambda words: None, configs)
    text = (base / "output" / "failure").read_text()
    assert text.startswith("hyperparameter config: not given")


def test_a_failure_that_cannot_be_written_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("a file where the folder should be")
    write_failure(tmp_path, BadInput("the cause"))


@pytest.mark.parametrize("error", [SIGTERMException(143), KeyboardInterrupt()])
def test_a_stopped_job_delivers_what_there_is_and_has_not_failed(
    job: Job, base: Path, configs: Path, error: BaseException
) -> None:
    job({"config": "sample"})
    run = Run(base, error)
    with pytest.raises(type(error)):
        run_container(run.train, run.export, configs)
    assert delivered(base) == {"best.ckpt": b"weights"}
    assert not (base / "output" / "failure").exists()
    assert len(run.words) == 1


def test_a_hyperparameter_that_only_shows_help_is_no_success(
    job: Job, base: Path, configs: Path
) -> None:
    job({"config": "sample", "print_config": ""})
    with pytest.raises(BadInput, match="shows help instead of training"):
        run_container(lambda words: sys.exit(0), lambda words: None, configs)
    assert "shows help" in (base / "output" / "failure").read_text()


def test_an_exit_after_ctrl_c_stays_one(job: Job, configs: Path) -> None:
    def interrupted(words: list[str]) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    job({"config": "sample"})
    with pytest.raises(SystemExit):
        run_container(interrupted, lambda words: None, configs)


def test_an_exit_code_is_where_the_toolkit_looks() -> None:
    with pytest.raises(ExitCode, match="exit code 3") as raised:
        raise ExitCode(3)
    assert raised.value.errno == 3


@pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux")
def test_the_kernel_is_asked_for_a_signal() -> None:
    prctl, given = ctypes.CDLL(None).prctl, ctypes.c_int()
    try:
        stop_with_parent()
        assert prctl(2, ctypes.byref(given)) == 0  # PR_GET_PDEATHSIG
        assert given.value == signal.SIGTERM
    finally:
        prctl(1, 0)
