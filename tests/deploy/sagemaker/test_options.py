"""A job becomes the options of a training run, and the line that a person can type for it."""

import tarfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.data.source import Source
from regrow.deploy.sagemaker.builtin import SS
from regrow.deploy.sagemaker.contract import Container
from regrow.deploy.sagemaker.options import training_call
from regrow.errors import BadInput

Job = Callable[..., Container]
Save = Callable[[Path, int], None]
Channel = Callable[..., dict[str, Path]]
ImageFolder = "--data.source=regrow.data.formats.ImageFolder"
OPTIONS = ("replay", "renamed", "allow_forgetting", "warm_start", "epochs")


def words_of(container: Container) -> list[str]:
    return training_call(container, container.base.parent / "configs", OPTIONS).words()


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
    assert words_of(job(values))[1:] == [
        "--data.size=[48, 64]",
        "--data.skip_corrupt=true",
        "--fit.epochs=3",
        "--fit.patience=null",
        '--renamed={"old": "new"}',
        "--run_name=a b",
        "--task.optimization.lr=0.001",
        f"--run={base / 'checkpoints' / 'run'}",
    ]


def test_checkpoints_go_where_the_platform_saves_them(job: Job, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    made = job({"config": "sample"}, checkpointconfig={"LocalPath": str(other)})
    assert words_of(made)[-1] == f"--run={other / 'run'}"


@pytest.mark.parametrize("name", ["sample", "sample.yaml"])
def test_a_config_goes_by_its_name(job: Job, configs: Path, name: str) -> None:
    assert words_of(job({"config": name}))[0] == f"--config={configs / 'sample.yaml'}"


def test_a_config_of_the_source_folder_goes_by_its_path(job: Job, tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("data: {source: {class_path: regrow.data.sample.Digits}}")
    assert words_of(job({"config": str(own)}))[0] == f"--config={own}"


def test_one_channel_is_the_data_and_several_are_its_splits(job: Job, base: Path) -> None:
    data = base / "input" / "data"
    config = {"config": "sample"}
    assert words_of(job(config, "training"))[1:3] == [
        f"--data.root={data / 'training'}",
        ImageFolder,
    ]
    several = words_of(job(config, "train", "validation", "test"))
    assert several[1:3] == [f"--data.root={data}", ImageFolder]


def test_what_the_job_says_of_its_data_is_not_overruled(job: Job, base: Path) -> None:
    root = f"--data.root={base / 'input' / 'data' / 'train'}"
    given = words_of(job({"config": "sample", "data.source": "mine.Source"}, "train"))
    assert given[1:3] == [root, "--data.source=mine.Source"]
    deeper = words_of(job({"config": "sample", "data.source.file": "a.csv"}, "train"))
    assert deeper[1:3] == [root, "--data.source.file=a.csv"]
    own = words_of(job({"config": "own"}, "train"))
    assert own[1] == root
    assert not any(word.startswith("--data.source") for word in own)
    elsewhere = words_of(job({"config": "sample", "data.root": "/data"}, "train"))
    assert elsewhere[1:2] == ["--data.root=/data"]
    assert not any(word.startswith("--data.source") for word in elsewhere)


@pytest.mark.parametrize("text", ["fit: {epochs: 1}", "[", "data: {source: }"])
def test_a_config_without_a_source_gets_one(job: Job, tmp_path: Path, text: str) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(text)
    assert ImageFolder in words_of(job({"config": str(own)}, "train"))


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
    word = words_of(job({"config": "sample"}, "train"))[2]
    module, _, found = word.removeprefix("--data.source=").rpartition(".")
    assert found == name
    assert issubclass(getattr(import_module(module), found), Source)


def test_the_model_channel_is_the_warm_start(job: Job, checkpoint: Save, base: Path) -> None:
    held = base / "input" / "data" / "model" / "best.ckpt"
    checkpoint(held, 1)
    for name in ("warm_start", "warm-start"):
        words = words_of(job({"config": "sample", name: "other.ckpt"}, "model"))
        assert [w for w in words if "start" in w] == [f"--warm_start={held}"]
    words = words_of(job({"config": "sample", "warm_start": "other.ckpt"}))
    assert "--warm_start=other.ckpt" in words


@pytest.fixture
def packed(base: Path, checkpoint: Save) -> Path:
    """Return an archive in the channel `model`, of a checkpoint and a memory."""
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
    job: Job, checkpoint: Save, base: Path, packed: Path, is_resumed: bool
) -> None:
    """A run that goes on in a fresh container needs the old network and the memory as well."""
    if is_resumed:
        checkpoint(base / "checkpoints" / "run" / "last.ckpt", 9)
    words = words_of(job({"config": "sample"}, "model"))
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
    assert f"--warm_start={parent}" in words_of(made)
    assert not parent.exists()


def test_an_interrupted_run_goes_on_and_begins_no_second_time(
    job: Job, checkpoint: Save, base: Path
) -> None:
    run = base / "checkpoints" / "run"
    checkpoint(run / "best.ckpt", 5)
    checkpoint(run / "last.ckpt", 9)
    checkpoint(base / "input" / "data" / "model" / "best.ckpt", 1)
    words = words_of(job({"config": "sample", "warm_start": "other.ckpt"}, "model"))
    assert words[-2:] == [f"--run={run}", f"--resume={run / 'last.ckpt'}"]
    assert not any("warm" in word for word in words)


def test_a_run_stopped_while_channels_were_back_goes_on(
    job: Job, checkpoint: Save, base: Path
) -> None:
    run = base / "checkpoints" / "run"
    checkpoint(run / "wide" / "last.ckpt", 5)
    checkpoint(base / "input" / "data" / "model" / "best.ckpt", 1)
    words = words_of(job({"config": "sample"}, "model"))
    assert words[-2:] == [f"--run={run}", "--resume=auto"]


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
        words_of(job(hyperparameters, *channels))


def test_several_machines_are_refused(job: Job) -> None:
    hosts = {"hosts": ["algo-1", "algo-2"]}
    with pytest.raises(BadInput, match="the job has 2 machines.*set the instance count to 1"):
        words_of(job({"config": "sample"}, resourceconfig=hosts))


@pytest.mark.parametrize("name", ["run", "resume", "run.x"])
def test_what_the_container_decides_is_refused_wherever_it_stands(
    job: Job, tmp_path: Path, name: str
) -> None:
    with pytest.raises(BadInput, match=f"hyperparameter {name}: the container sets it"):
        words_of(job({"config": "sample", name: "x"}))
    config = tmp_path / "own.yaml"
    config.write_text(f"data: {{source: null}}\n{name}: elsewhere\n")
    with pytest.raises(BadInput, match=f"own.yaml: {name}: the container sets it"):
        words_of(job({"config": str(config)}))


# Jobs for a built-in algorithm.


@pytest.fixture
def built_in(tmp_path: Path) -> Job:
    """Return a maker of jobs for Image Classification: hyperparameters and what the list says."""

    def make(text: str = "0\t0\ta.png\n1\t1\tb.png\n", **given: Any) -> Container:
        data = tmp_path / "input" / "data"
        (data / "train").mkdir(parents=True)
        for name in ("a.png", "b.png"):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(data / "train" / name)
        (data / "train_lst").mkdir()
        (data / "train_lst" / "train.lst").write_text(text)
        channels = {name: data / name for name in ("train", "train_lst")}
        return Container(tmp_path, given, channels, tmp_path / "checkpoints")

    return make


def test_a_job_gets_its_data_and_regrow_s_own_options_count_last(
    built_in: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = built_in(num_classes=2, num_training_samples=2, epochs=3, **{"fit.clip": 1.5})
    words = words_of(made)
    data = tmp_path / "input" / "data"
    assert words[-4:] == [
        f"--data.root={data}",
        "--data.source=regrow.data.sagemaker.SageMakerList",
        "--fit.clip=1.5",
        f"--run={tmp_path / 'checkpoints' / 'run'}",
    ]
    assert "--fit.epochs=3" in words
    assert not any(word.startswith("--config") for word in words)
    assert capsys.readouterr().out == ""


def test_options_without_a_dot_stand_beside_them(
    built_in: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"replay": 0.5, "allow-forgetting": True, "renamed": {"0": "cat"}, "warm_start": "a.ckpt"}
    words = words_of(built_in(num_layers=18, epochs=3, **own))
    assert words[-5:-1] == [
        "--allow_forgetting=true",
        '--renamed={"0": "cat"}',
        "--replay=0.5",
        "--warm_start=a.ckpt",
    ]
    # A name of the built-in algorithm's own stays that.
    assert "--fit.epochs=3" in words
    assert not any(word.startswith("--epochs") for word in words)
    assert "num_layers: no effect, the network is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "near"), [("epoch", "epochs"), ("replays", "replay"), ("allow-forgeting", "allow_for")]
)
def test_an_unknown_name_is_refused_with_the_nearest(built_in: Job, name: str, near: str) -> None:
    line = f"hyperparameter {name}: image-classification has none of this name; did you mean {near}"
    with pytest.raises(BadInput, match=line):
        words_of(built_in(num_layers=18, **{name: 1}))


def test_counts_that_differ_from_the_data_are_said(
    built_in: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    words_of(built_in(num_classes="3", num_training_samples="9", kv_store="dist_sync"))
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    assert printed[0].startswith(
        "hyperparameter num_classes is 3, and the data has 2 classes: 0, 1"
    )
    assert printed[1].startswith("hyperparameter num_training_samples is 9, and the data has 2 tr")
    assert printed[2] == "hyperparameter kv_store: no effect: a job has one machine"


def test_more_classes_than_the_job_says_are_refused(built_in: Job) -> None:
    with pytest.raises(BadInput, match="num_classes is 1, and the data has 2 classes: 0, 1; corr"):
        words_of(built_in(num_classes="1"))


def test_masks_need_the_number_of_classes(tmp_path: Path, channel: Channel) -> None:
    data = tmp_path / "data"
    channels = channel(data, "train", "a.jpg") | channel(data, "train_annotation", "a.png")
    made = Container(tmp_path, {"builtin": SS}, channels, tmp_path)
    with pytest.raises(BadInput, match="hyperparameter num_classes is ''; it must be a whole"):
        words_of(made)
    made = Container(tmp_path, {"num_classes": 21}, channels, tmp_path)
    words = words_of(made)
    assert "--data.source=regrow.data.sagemaker.SageMakerMasks" in words
    assert "--data.source.num_classes=21" in words


def test_a_job_without_images_is_refused(tmp_path: Path) -> None:
    made = Container(tmp_path, {"num_layers": 18}, {}, tmp_path)
    with pytest.raises(BadInput, match="image-classification: the job has no channel of images"):
        words_of(made)


@pytest.mark.parametrize("name", ["epochs", "builtin"])
def test_their_names_beside_a_config_are_refused(built_in: Job, name: str) -> None:
    with pytest.raises(BadInput, match=f"hyperparameter {name}: beside config"):
        words_of(built_in(config="classification", **{name: 3}))
