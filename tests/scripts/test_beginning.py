"""How a run begins, goes on by its own command, and what it can fall back to."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regrow.errors import BadInput
from regrow.models.checkpoint import net_state, read, save
from regrow.models.classification import Classification
from regrow.pipelines import commands
from regrow.pipelines.training.session import Session
from regrow.scripts import train

Words = Callable[..., list[str]]
Scores = Callable[..., None]
Folder = Callable[..., Path]
Equal = Callable[[Path, Path], None]
Stop = Callable[..., None]

AUTO = "--resume=auto"


def test_a_command_that_is_repeated_begins_goes_on_and_ends(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    assert_equal_weights: Equal,
) -> None:
    root = folder()
    commands.train(words(root, "whole"))
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert train.main(words(root, "run", AUTO)) == 143
    told = capsys.readouterr()
    assert "holds no run to go on with yet: one begins" in told.out
    assert told.err.splitlines()[-1] == (
        f"stopped by a signal; {tmp_path}/run goes on by the same command with --resume auto"
    )
    assert train.main(words(root, "run", AUTO)) == 0
    assert "after 2 steps" in capsys.readouterr().out
    assert_equal_weights(tmp_path / "whole" / "last.ckpt", tmp_path / "run" / "last.ckpt")
    assert train.main(words(root, "run", AUTO)) == 0
    assert "its training was finished already" in capsys.readouterr().out
    assert_equal_weights(tmp_path / "whole" / "last.ckpt", tmp_path / "run" / "last.ckpt")
    assert not (tmp_path / "run-1").exists()


def test_a_warm_starts_own_command_goes_on(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    assert_equal_weights: Equal,
) -> None:
    root = folder("old")
    commands.train(words(root, "old"))
    commands.train(words(root, "other", "--seed=1"))
    new = folder("new", ("blue", "green", "red"))
    start = f"--warm-start={tmp_path}/old/best.ckpt"
    commands.train(words(new, "whole", start))
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert train.main(words(new, "run", start, AUTO)) == 143
    other = f"--warm-start={tmp_path}/other/best.ckpt"
    with pytest.raises(BadInput, match=r"began from .*/old/best.ckpt, not from .*/other/best"):
        commands.train(words(new, "run", other, AUTO))
    with pytest.raises(BadInput, match="cannot change renamed"):
        commands.train(words(new, "run", start, "--renamed.red=blue", AUTO))
    with pytest.raises(BadInput, match="began without --warm-start"):
        commands.train(words(root, "other", start, AUTO))
    assert train.main(words(new, "run", start, AUTO)) == 0
    for name in ("last.ckpt", "best.ckpt"):
        assert_equal_weights(tmp_path / "whole" / name, tmp_path / "run" / name)


def test_a_warm_start_killed_before_its_first_epoch_begins_anew(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = folder()
    commands.train(words(root, "old"))
    again = words(root, "run", f"--warm-start={tmp_path}/old/best.ckpt", AUTO)

    def stopped(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "train", stopped)
        assert train.main(again) == 143
    assert capsys.readouterr().err.splitlines()[-1] == (
        "stopped by a signal; nothing was saved yet: give the same command again"
    )
    assert [file.name for file in (tmp_path / "run").glob("*.ckpt")] == ["best.ckpt"]
    assert train.main(again) == 0
    assert read(tmp_path / "run" / "last.ckpt")["epoch"] == 1


def test_what_is_no_training_run_is_not_begun_over(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    save(tmp_path / "run" / "pruned.ckpt", Classification(["green", "red"], (32, 32)))
    with pytest.raises(BadInput, match=r"pruned.ckpt: training cannot go on from it"):
        commands.train(words(folder(), "run", AUTO))


@pytest.mark.parametrize("stop", [None, 4], ids=["whole", "stopped"])
def test_a_warm_start_that_never_gets_better_keeps_the_old_network(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
    stop: int | None,
    assert_equal_weights: Equal,
    score_epochs: Scores,
) -> None:
    root, parent = folder(), tmp_path / "old" / "best.ckpt"
    commands.train(words(root, "old"))
    start = words(root, "new", f"--warm-start={parent}", "--fit.epochs=2", AUTO)
    with monkeypatch.context() as patch:
        # The old network, the same as the run begins, and two epochs of three batches.
        score_epochs(patch, 0.8, 0.8, 0.5, 0.7)
        if stop is not None:
            with monkeypatch.context() as inner:
                stop_after(inner, stop)
                assert train.main(start) == 143
        report = commands.train(start)
    assert_equal_weights(parent, tmp_path / "new" / "best.ckpt")
    assert read(tmp_path / "new" / "best.ckpt")["regrow"]["provenance"]["scores"][
        "val/accuracy"
    ] == pytest.approx(0.8)
    assert (report.figures["best_epoch"], report.figures["epochs"]) == (0, 2)
    page = (tmp_path / "new" / "report.md").read_text()
    assert "The old network as it came (epoch 0), which none of the epochs was better than," in page
    last = net_state(read(tmp_path / "new" / "last.ckpt"))["head.weight"]
    assert not torch.equal(last, net_state(read(parent))["head.weight"]), "it was trained"


def test_of_equal_scores_the_trained_network_is_kept(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    score_epochs: Scores,
) -> None:
    root = folder()
    commands.train(words(root, "old"))
    score_epochs(monkeypatch, 0.8, 0.8, 0.8, 0.8)
    report = commands.train(words(root, "new", f"--warm-start={tmp_path}/old/best.ckpt"))
    assert report.figures["best_epoch"] == 1
    assert read(tmp_path / "new" / "best.ckpt")["epoch"] == 0


def test_the_candidate_is_the_network_before_its_weights_were_shrunk(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    root, parent = folder("old"), tmp_path / "old" / "best.ckpt"
    commands.train(words(root, "old"))
    shrunk = ["--growth.warm_init=shrink-perturb", "--growth.shrink=0", "--growth.perturb=1"]
    new = folder("new", ("blue", "green", "red"))
    # A fresh network that does not learn, beside one that knows two of three classes.
    options = [f"--warm-start={parent}", *shrunk, "--task.optimization.lr=0"]
    report = commands.train(words(new, "new", *options))
    assert report.figures["best_epoch"] == 0
    kept, old = (net_state(read(tmp_path / run / "best.ckpt")) for run in ("new", "old"))
    for name, value in old.items():
        assert torch.equal(kept[name][: len(value)] if value.ndim else kept[name], value), name
