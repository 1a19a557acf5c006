"""A stopped run goes on to the weights that it would have had, and with nothing else."""

import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from regrow.errors import BadInput
from regrow.models.checkpoint import net_state, read, save
from regrow.models.classification import Classification
from regrow.pipelines import commands
from regrow.scripts import train
from regrow.training.callbacks import Throughput

Words = Callable[..., list[str]]
Scores = Callable[..., None]
Folder = Callable[..., Path]
Trained = Callable[..., Path]
Equal = Callable[[Path, Path], None]
Stop = Callable[..., None]


@pytest.mark.parametrize("num_batches", [2, 3, 4], ids=["in", "end", "next"])
@pytest.mark.parametrize("option", ["--fit.epochs=3", "--fit.ema=0.9"])
def test_a_stopped_run_goes_on_bit_for_bit(
    trained: Trained,
    words: Words,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
    num_batches: int,
    option: str,
    assert_equal_weights: Equal,
) -> None:
    trained("whole", option)  # three batches an epoch
    root = tmp_path / "data" / "images"
    with monkeypatch.context() as patch:
        stop_after(patch, num_batches)
        assert train.main(words(root, "stopped", option)) == 143
    assert read(tmp_path / "stopped" / "last.ckpt")["global_step"] == num_batches
    assert train.main(words(root, "stopped", option, "--resume=auto")) == 0
    for name in ("last.ckpt", "best.ckpt"):
        assert_equal_weights(tmp_path / "whole" / name, tmp_path / "stopped" / name)
    assert (
        read(tmp_path / "stopped" / "last.ckpt")["global_step"]
        == read(tmp_path / "whole" / "last.ckpt")["global_step"]
    )


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let SIGINT be Ctrl-C here too, where a shell or pytest's workers may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_saves_the_batch_and_the_run_goes_on_bit_for_bit(
    trained: Trained,
    words: Words,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    workers: int,
    assert_equal_weights: Equal,
) -> None:
    trained("whole", "--fit.epochs=3")
    root = tmp_path / "data" / "images"
    options = ["--fit.epochs=3", f"--data.num_workers={workers}"]
    with monkeypatch.context() as patch:
        stop_after(patch, 4, signals=[signal.SIGINT])
        assert train.main(words(root, "stopped", *options)) == 143
    assert "stopping after this batch; Ctrl-C again stops at once" in capfd.readouterr().err
    assert read(tmp_path / "stopped" / "last.ckpt")["global_step"] == 4
    assert train.main(words(root, "stopped", *options, "--resume=auto")) == 0
    assert_equal_weights(tmp_path / "whole" / "last.ckpt", tmp_path / "stopped" / "last.ckpt")


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_again_stops_at_once(
    folder: Folder, words: Words, tmp_path: Path, stop_after: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder()
    with monkeypatch.context() as patch:
        stop_after(patch, 4, signals=[signal.SIGINT, signal.SIGINT])
        assert train.main(words(root, "stopped", "--fit.epochs=3")) == 143
    # That of the last epoch.
    assert read(tmp_path / "stopped" / "last.ckpt")["global_step"] == 3


def scores(run: Path) -> dict[str, list[float]]:
    """Read what was logged of validation images, in the order of the steps."""
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("val/")]
    return {tag: [event.value for event in events.Scalars(tag)] for tag in tags}


@pytest.mark.parametrize("num_batches", [1, 3, 5, 6], ids=["first", "last", "mid", "end"])
@pytest.mark.parametrize("option", ["--fit.epochs=2", "--fit.ema=0.9"])
def test_a_run_stopped_in_a_validation_does_it_again(
    trained: Trained,
    words: Words,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
    num_batches: int,
    option: str,
    assert_equal_weights: Equal,
) -> None:
    trained("whole", option)  # three batches an epoch, of training and of validation
    root = tmp_path / "data" / "images"
    seen = []
    monkeypatch.setattr(
        Throughput, "on_validation_batch_end", lambda *args, **kwargs: seen.append(1)
    )
    with monkeypatch.context() as patch:
        stop_after(patch, num_batches, "val")
        assert train.main(words(root, "stopped", option)) == 143
    assert len(seen) == num_batches, "no batch more is waited for"
    stopped = read(tmp_path / "stopped" / "last.ckpt")
    assert stopped["global_step"] == 3 * math.ceil(num_batches / 3)
    assert train.main(words(root, "stopped", option, "--resume=auto")) == 0
    redone = num_batches % 3
    assert len(seen) == 6 + redone, "the validation begins again, and no other"
    for name in ("last.ckpt", "best.ckpt"):
        assert_equal_weights(tmp_path / "whole" / name, tmp_path / "stopped" / name)
    assert scores(tmp_path / "stopped") == scores(tmp_path / "whole")


def test_resume_passes_over_a_truncated_checkpoint(
    folder: Folder, words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder()
    commands.train(words(root))
    last = tmp_path / "run" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    assert train.main(words(root, "run", "--resume=auto")) == 0
    assert "passed over" in capsys.readouterr().err


def test_the_best_network_of_a_run_that_was_moved_stays(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
    score_epochs: Scores,
) -> None:
    root, option = folder(), "--fit.epochs=4"
    score_epochs(monkeypatch, 0.5, 0.9, 0.7, 0.8)
    with monkeypatch.context() as patch:
        stop_after(patch, 8)  # in the third epoch of three batches
        assert train.main(words(root, "first", option)) == 143
    states = read(tmp_path / "first" / "last.ckpt")["callbacks"]
    named = ModelCheckpoint(tmp_path, monitor="val/accuracy", mode="max").state_key
    assert named in states, "a run of Lightning's own callback goes on too"
    (tmp_path / "first").rename(tmp_path / "moved")
    best = read(tmp_path / "moved" / "best.ckpt")
    assert train.main(words(root, "moved", option, "--resume=auto")) == 0
    assert not (tmp_path / "first").exists()
    after = read(tmp_path / "moved" / "best.ckpt")
    assert after["global_step"] == best["global_step"] == 6
    assert all(torch.equal(net_state(after)[n], w) for n, w in net_state(best).items())
    assert read(tmp_path / "moved" / "last.ckpt")["global_step"] == 12


@pytest.mark.parametrize("is_torn", [False, True], ids=["gone", "torn"])
def test_a_run_without_its_best_network_finds_another(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
    is_torn: bool,
    score_epochs: Scores,
) -> None:
    root, option = folder(), "--fit.epochs=4"
    score_epochs(monkeypatch, 0.5, 0.9, 0.7, 0.8)
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        assert train.main(words(root, "run", option)) == 143
    best = tmp_path / "run" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:5000]) if is_torn else best.unlink()
    assert train.main(words(root, "run", option, "--resume=auto")) == 0
    assert read(best)["global_step"] == 12


@pytest.mark.parametrize("victim", ["..", ".", "report.md", "/", "tensorboard", "{root}/kept.txt"])
def test_a_checkpoint_names_no_file_that_is_removed(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
    victim: str,
) -> None:
    """Its run was hostile: Lightning removes the files of a checkpoint's callbacks, or folders."""
    root, option = folder(), "--fit.epochs=3"
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert train.main(words(root, "box/run", option)) == 143
    run = tmp_path / "box" / "run"
    for place in (tmp_path / "box", run, root):
        (place / "kept.txt").write_text("kept")
    (run / "report.md").write_text("kept")
    payload, named = torch.load(run / "last.ckpt"), victim.format(root=root)
    for state in payload["callbacks"].values():
        for name in ("best_model_path", "kth_best_model_path", "last_model_path", "dirpath"):
            state[name] = named
        state["best_k_models"] = {named: torch.tensor(-1.0)}
    torch.save(payload, run / "last.ckpt")
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    assert train.main(words(root, "box/run", option, "--resume=auto")) == 0
    assert before <= {*tmp_path.rglob("*")}
    assert (run / "kept.txt").read_text() == "kept"
    assert read(run / "best.ckpt")["epoch"] in (0, 1, 2)


def test_resume_refuses_what_would_change_the_weights(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    root = folder()
    commands.train(words(root))
    for change, name in (
        ("--fit.epochs=3", "fit.epochs"),
        ("--seed=1", "seed"),
        ("--task.optimization.lr=1", "task.optimization.lr"),
        ("--data.batch_size=4", "data.batch_size"),
    ):
        with pytest.raises(BadInput, match=f"--resume cannot change {name} from"):
            commands.train(words(root, "run", "--resume=auto", change))
    commands.train(words(root, "run", "--resume=auto", "--data.num_workers=1"))
    with pytest.raises(BadInput, match="began without --warm-start; leave that out to go on"):
        commands.train(
            words(root, "run", "--resume=auto", f"--warm-start={tmp_path}/run/best.ckpt")
        )


def test_resume_needs_the_same_images_in_the_same_order(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    root = folder()
    commands.train(words(root))
    root = root.rename(tmp_path / "elsewhere")
    commands.train(words(root, "run", "--resume=auto"))
    first = root / "train" / "red" / "0.png"
    first.rename(root / "train" / "red" / "z.png")
    with pytest.raises(BadInput, match="in the order that the run began with"):
        commands.train(words(root, "run", "--resume=auto"))
    (root / "train" / "red" / "z.png").unlink()
    with pytest.raises(BadInput, match="these differ"):
        commands.train(words(root, "run", "--resume=auto"))


def test_a_run_goes_on_from_a_checkpoint_of_its_own_alone(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
    assert_equal_weights: Equal,
) -> None:
    root = folder()
    commands.train(words(root, "whole"))
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert train.main(words(root, "stopped")) == 143
    last = tmp_path / "stopped" / "last.ckpt"
    with pytest.raises(BadInput, match=f"of another run than .*; add --run {tmp_path}/stopped"):
        commands.train(words(root, "whole", f"--resume={last}"))
    network = tmp_path / "stopped" / "pruned.ckpt"
    save(network, Classification(["green", "red"], (32, 32)))
    with pytest.raises(BadInput, match="no state of a training run; begin a new run with --warm"):
        commands.train(words(root, "stopped", f"--resume={network}"))
    commands.train(words(root, "stopped", f"--resume={last}"))
    assert_equal_weights(tmp_path / "whole" / "last.ckpt", last)


def test_a_stopped_warm_start_goes_on(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
    assert_equal_weights: Equal,
) -> None:
    commands.train(words(folder("old"), "old"))
    new = folder("new", ("blue", "green", "red"))
    start = f"--warm-start={tmp_path}/old/best.ckpt"
    whole = commands.train(words(new, "whole", start)).figures
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert train.main(words(new, "stopped", start)) == 143
    figures = commands.train(words(new, "stopped", "--resume=auto")).figures
    assert_equal_weights(tmp_path / "whole" / "last.ckpt", tmp_path / "stopped" / "last.ckpt")
    for name in ("parent", "data", "before_training", "per_class", "classes", "score"):
        assert figures[name] == whole[name]


def test_the_signal_is_lightnings_own(
    folder: Folder, words: Words, stop_after: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 1)
    with pytest.raises(SIGTERMException):
        commands.train(words(folder()))
