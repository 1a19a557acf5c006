"""Warm starts as a user runs them: old images, a memory of them, or none; and the gate."""

import json
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from regrow.errors import BadInput
from regrow.incremental.gating.promotion import read_promoted
from regrow.metrics.scores import Accuracy
from regrow.models.checkpoint import load, net_state, read, save
from regrow.models.masks import mask_weights_
from regrow.pipelines import commands
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import cut_
from regrow.scripts import train
from regrow.training.distillation import DistillationPenalty

Words = Callable[..., list[str]]
Folder = Callable[..., Path]
Trained = Callable[..., Path]
Equal = Callable[[Path, Path], None]
Refused = Callable[[list[str]], str]
Stop = Callable[[pytest.MonkeyPatch, int], None]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return net_state(read(path))


@pytest.fixture
def old(trained: Trained, tmp_path: Path) -> Path:
    """A network of green and red, which keeps a memory, and whose images are gone."""
    best = trained("old", "--fit.epochs=6", "--replay=0.5", images="old")
    shutil.rmtree(tmp_path / "data" / "old")
    return best


@pytest.fixture
def warm(folder: Folder, words: Words, old: Path) -> Callable[..., list[str]]:
    """Return the words of a warm start from it on new images alone: `warm(run="new", *more)`."""
    blue = folder("new", ("blue",))
    return lambda run="new", *more: words(blue, run, f"--warm-start={old}", *more)


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    """Return a function that runs a warm start that is refused, and returns the line it said."""

    def call(line: list[str]) -> str:
        assert train.main(line) == 2
        assert not (tmp_path / "new").exists()
        return capsys.readouterr().err

    return call


def test_new_images_alone_are_refused(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands.train(words(folder("old"), "old"))
    blue = folder("new", ("blue", "green"))
    shutil.rmtree(blue / "train" / "green")
    start = f"--warm-start={tmp_path}/old/best.ckpt"
    assert train.main(words(blue, "new", start)) == 2
    line = capsys.readouterr().err
    assert "none of the 12 training images is one of the 24 that" in line
    assert "--allow-forgetting" in line
    assert not (tmp_path / "new").exists()


def test_forgetting_is_allowed_and_measured(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands.train(words(folder("old"), "old", "--fit.epochs=6"))
    blue = folder("new", ("blue",))
    options = [f"--warm-start={tmp_path}/old/best.ckpt", "--allow-forgetting=true"]
    report = commands.train(words(blue, "new", *options, "--fit.epochs=6"))
    figures = report.figures
    assert figures["classes"] == ["green", "red", "blue"]
    # The old test images are where they were, so it shows what was forgotten.
    assert figures["per_class"]["red"]["before"] == 1.0
    assert figures["per_class"]["blue"]["fate"] == "new"
    page = (tmp_path / "new" / "report.md").read_text()
    assert "It was trained on new images alone." in page
    told = next(line for line in page.split(". ") if line.startswith("Over the old classes"))
    assert f"{told}." in capsys.readouterr().out


def test_old_images_that_are_forgotten_shut_the_gate_though_new_ones_are_learned(
    folder: Folder, words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = folder("old"), folder("new", count=36)
    for split in ("train", "val", "test"):  # what was red is green, and the other way round
        (new / split / "red").rename(new / split / "x")
        (new / split / "green").rename(new / split / "red")
        (new / split / "x").rename(new / split / "green")
        for place in (new / split).glob("*/*.png"):  # and no image is one of the old ones
            pixels = np.asarray(Image.open(place))[::-1, ::-1]
            Image.fromarray(pixels).save(place)
    commands.train(words(old, "old", "--fit.epochs=6"))
    first = tmp_path / "old" / "best.ckpt"
    options = [f"--warm-start={first}", "--allow-forgetting=true", "--gate.margin=0.01"]
    assert train.main(words(new, "new", *options, "--fit.epochs=8")) == 3
    said = capsys.readouterr()
    # Known before training: 0.99^299 < 0.05.
    assert "gate: 24 old test images are too few to rule out a loss above 1 point " in said.out
    assert "points on 24 old images, which is worse than the margin of 1" in said.err
    assert said.err.endswith(f"; {first} stays\n")
    figures = json.loads((tmp_path / "new" / "report.json").read_text())
    assert read_promoted(tmp_path / "new" / "promoted.json") == first
    assert (figures["judged"]["num_old"], figures["judged"]["num_new"]) == (24, 72)
    for change in figures["per_class"].values():
        assert (change["fate"], change["before"], change["after"]) == ("forgotten", 1, 0)
        assert change["new_images"]["fate"] == "gained"
        assert change["new_images"]["num_images"] == 36


def test_a_memory_stands_for_the_old_images(tmp_path: Path, warm: Words) -> None:
    report = commands.train(warm("new", "--fit.epochs=8", "--replay=12"))
    figures = report.figures
    assert figures["classes"] == ["green", "red", "blue"]
    assert all(change["after"] > 0.9 for change in figures["per_class"].values())
    # 12 blue images and a memory of 12, which stands for 24, for 8 epochs; the first network had 6.
    assert figures["compute"] == {"images": 8 * 24, "scratch_estimate": 6 * 36}
    page = (tmp_path / "new" / "report.md").read_text()
    assert "A memory of 12 images stood for those" in page
    assert "Old images in the scores are the memory's alone." in page
    listed = json.loads((tmp_path / "new" / "memory" / "snapshot.json").read_text())
    # 12 blue images are new, and the memory of before stands for 24.
    assert listed["stands_for"] == 36
    kept = [item["target"] for item in listed["items"] if item["split"] == "train"]
    assert {name: kept.count(name) for name in kept} == {"red": 4, "green": 4, "blue": 4}


@pytest.mark.parametrize(("options", "teaches"), [([], True), (["weight"], False)])
def test_the_old_network_teaches_where_there_is_a_memory(
    options: list[str], teaches: bool, warm: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = []
    forward = DistillationPenalty.forward

    def noting(self: DistillationPenalty, *given: Any) -> torch.Tensor:
        taught.append(self.distillation.weight)
        return forward(self, *given)

    monkeypatch.setattr(DistillationPenalty, "forward", noting)
    chosen = [f"--growth.distillation={{{name}: 0}}" for name in options]
    commands.train(warm("new", *chosen))
    assert taught == [1.0] * len(taught)
    assert bool(taught) is teaches


def test_the_best_model_is_that_of_classes_alike_where_there_is_a_memory(
    tmp_path: Path, warm: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = count()
    compute = Accuracy.compute

    def contrary(self: Accuracy) -> dict[str, torch.Tensor]:
        """Let one score rise while the other falls, from epoch to epoch."""
        rising = torch.tensor(0.1 * (next(epochs) + 1))
        return {**compute(self), "accuracy": rising, "macro_accuracy": 1 - rising}

    monkeypatch.setattr(Accuracy, "compute", contrary)
    commands.train(warm("new", "--fit.epochs=3"))
    scores = {
        name: read(tmp_path / "new" / name)["regrow"]["provenance"]["scores"]["val/accuracy"]
        for name in ("best.ckpt", "last.ckpt")
    }
    # The old network comes before the three epochs, and is the best by the score that falls.
    assert scores["last.ckpt"] == pytest.approx(scores["best.ckpt"] + 0.3)
    page = (tmp_path / "new" / "report.md").read_text()
    assert "chose it, by macro_accuracy" in page


def test_a_memory_anchors_what_is_kept_to_the_old_weights(
    old: Path, tmp_path: Path, warm: Words
) -> None:
    commands.train(warm("new", "--fit.epochs=1"))
    commands.train(warm("free", "--fit.epochs=1", "--growth.anchor=0"))
    kept, free, before = (
        weights(p) for p in (tmp_path / "new" / "last.ckpt", tmp_path / "free" / "last.ckpt", old)
    )
    for name, value in kept.items():
        trained, wanted = free[name], free[name].clone()
        if value.is_floating_point():
            rows = len(before[name]) if before[name].ndim else ...
            wanted[:rows] = 0.7 * trained[:rows] + 0.3 * before[name]
        torch.testing.assert_close(value, wanted)
    moved = {name for name in kept if not torch.equal(kept[name], free[name])}
    assert moved == {name for name, value in kept.items() if value.is_floating_point()}
    assert torch.equal(kept["head.weight"][2], free["head.weight"][2])


def between(file: Path, old: Path) -> bool:
    """Say whether what a checkpoint keeps lies between its trained weights and the old ones."""
    payload = read(file)
    trained = net_state({"state_dict": payload["current_model_state"]})
    return all(
        torch.allclose(value[: len(before)], 0.7 * trained[name][: len(before)] + 0.3 * before)
        for name, before in weights(old).items()
        if before.is_floating_point()
        for value in [net_state(payload)[name]]
    )


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_an_anchor_needs_no_validation_and_no_end(
    old: Path, tmp_path: Path, warm: Words, stop_after: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.train(warm("unseen", "--fit.trainer={limit_val_batches: 0}"))
    assert between(tmp_path / "unseen" / "last.ckpt", old)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert train.main(warm("stopped")) == 143
    assert between(tmp_path / "stopped" / "last.ckpt", old)


@pytest.mark.gpu
def test_a_stopped_run_with_a_memory_goes_on_on_a_gpu(
    folder: Folder,
    words: Words,
    old: Path,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blue, options = folder("new", ("blue",)), ["--fit.accelerator=gpu", "--fit.precision=32-true"]
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert train.main(words(blue, "new", f"--warm-start={old}", *options)) == 143
    assert train.main(words(blue, "new", *options, "--resume=auto")) == 0
    assert between(tmp_path / "new" / "last.ckpt", old)


def test_an_anchor_takes_the_precision_of_the_run(old: Path, tmp_path: Path, warm: Words) -> None:
    commands.train(warm("new", "--fit.precision=bf16-true", "--fit.epochs=1"))
    last = read(tmp_path / "new" / "last.ckpt")
    kept, trained = last["state_dict"]["net.head.weight"], last["current_model_state"]
    head = trained["net.head.weight"]
    assert head.dtype == torch.bfloat16
    expected = 0.7 * head[:2].float() + 0.3 * weights(old)["head.weight"]
    torch.testing.assert_close(kept[:2].float(), expected, rtol=0.02, atol=0.01)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"taught": 1.0, "anchor": 0.3}),
        (["--growth.warm_init=dash"], {"taught": 1.0, "anchor": 0.0}),
        (["--fit.ema=0.9"], {"taught": 1.0, "anchor": 0.0}),
        (["--growth.anchor=0.5", "--growth.distillation.weight=2"], {"taught": 2.0, "anchor": 0.5}),
    ],
)
def test_the_report_says_what_is_kept(
    options: list[str], expected: dict, tmp_path: Path, warm: Words
) -> None:
    assert commands.train(warm("new", "--fit.epochs=1", *options)).figures["growth"] == expected
    page = (tmp_path / "new" / "report.md").read_text()
    assert f"taught it, with weight {expected['taught']:g} in the loss" in page
    assert ("of the way back from the trained weights" in page) == bool(expected["anchor"])


def test_an_average_and_an_anchor_are_refused(warm: Words, refused: Refused) -> None:
    said = refused(warm("new", "--fit.ema=0.9", "--growth.anchor=0.3"))
    assert "growth.anchor and fit.ema both say what weights are kept" in said


def test_an_anchor_needs_the_old_channels(old: Path, warm: Words, refused: Refused) -> None:
    task = load(old)
    cut_(task, [(group, [0]) for group in find_groups(task).groups])
    save(old, task)
    line = warm("new", "--sparsity=dense", "--fit.epochs=1")
    said = refused([*line, "--growth.anchor=0.3"])
    assert "growth.anchor needs the channels of the old network" in said
    assert commands.train(line).figures["growth"]["anchor"] == 0


def test_one_class_that_is_left_teaches_nothing(warm: Words, refused: Refused) -> None:
    line = warm("new", "--removed=[red]")
    said = refused([*line, "--growth.distillation.weight=1"])
    assert "needs 2 old classes or more, and only green is left" in said
    assert commands.train(line).figures["growth"]["taught"] == 0


def test_masks_that_come_back_refuse_patience_at_once(
    old: Path, warm: Words, refused: Refused
) -> None:
    task = load(old)
    masks = {n: torch.rand(w.shape) < 0.5 for n, w in task.net.named_parameters() if w.ndim == 4}
    mask_weights_(task.net, masks)
    save(old, task)
    said = refused(warm("new", "--sparsity=regrow", "--fit.patience=1"))
    assert "fit.patience may end the run while masked weights are back" in said


def test_a_stopped_run_with_a_memory_and_a_teacher_goes_on_bit_for_bit(
    folder: Folder,
    words: Words,
    old: Path,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
    assert_equal_weights: Equal,
) -> None:
    blue = folder("new", ("blue",))
    options = [f"--warm-start={old}", "--growth.distillation={weight: 1.0}"]
    options += ["--growth.warm_init=shrink-perturb", "--growth.new_rows=imprint"]
    options += ["--growth.anchor=0.3"]
    commands.train(words(blue, "whole", *options))
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert train.main(words(blue, "stopped", *options)) == 143
    again = [word for word in options if "warm-start" not in word]
    assert train.main(words(blue, "stopped", *again, "--resume=auto")) == 0
    callbacks = read(tmp_path / "stopped" / "last.ckpt")["callbacks"]
    assert any("val/macro_accuracy" in name for name in callbacks)
    for name in ("best.ckpt", "last.ckpt"):
        assert_equal_weights(tmp_path / "whole" / name, tmp_path / "stopped" / name)


def test_a_changed_memory_is_refused_by_name(
    old: Path, capsys: pytest.CaptureFixture[str], warm: Words
) -> None:
    image = old.parent / "memory" / "images" / "000003.png"
    shutil.copyfile(image.with_name("000004.png"), image)
    assert train.main(warm()) == 2
    assert "000003.png: not what was stored" in capsys.readouterr().err


def test_the_gate_names_the_checkpoint_to_serve(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gate = ["--gate.margin=0.5", "--gate.floor=0.5", f"--promoted={tmp_path}/promoted.json"]
    long = "--fit.epochs=8"
    commands.train(words(folder("old"), "old", *gate, long))

    def served() -> str:
        return str(read_promoted(tmp_path / "promoted.json"))

    first = tmp_path / "old" / "best.ckpt"
    assert served() == str(first)
    grown = folder("old", ("blue", "green", "red"))
    start = f"--warm-start={first}"
    # A rate of 0 learns no new class.
    assert train.main(words(grown, "bad", *gate, start, "--task.optimization.lr=0")) == 3
    said = capsys.readouterr().err
    assert "not to be served: blue: accuracy" in said
    assert said.endswith(f"; {first} stays\n")
    assert served() == str(first)
    assert train.main(words(grown, "good", *gate, start, long)) == 0
    assert served() == str(tmp_path / "good" / "best.ckpt")


def test_a_memory_larger_than_the_data_is_refused(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="replay is 25, more than the 24 training images"):
        commands.train(words(folder(), "run", "--replay=25"))
    assert not (tmp_path / "run").exists()
