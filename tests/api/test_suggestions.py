"""A mistyped option, class or choice is answered with what was probably meant."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regrow.errors import BadInput
from regrow.pipelines.commands import export, prune, train
from regrow.pipelines.experiments.commands import compare

CONFIGS = Path(__file__).parents[2] / "configs"


def said(command: Callable[..., Any], *words: str) -> str:
    with pytest.raises(BadInput) as caught:
        command([*words])
    return str(caught.value)


TRAIN = ("--config", str(CONFIGS / "classification.yaml"))


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("--fit.epoch", "3"), "--fit.epoch: no such option; did you mean --fit.epochs?"),
        (("--fit.epoch=3",), "--fit.epoch: no such option; did you mean --fit.epochs?"),
        (("--epochs", "3"), "did you mean --fit.epochs?"),
        (("--warm-strat", "x"), "did you mean --warm_start?"),
        (("--growth.mixing.new_shar", "1"), "did you mean --growth.mixing.new_share?"),
        (("--task.optimzation.lr", "1"), "did you mean --task.optimization.lr?"),
        (("--task.optimization.lrr", "1"), "did you mean --task.optimization.lr?"),
        (("--data.sourc", "x"), "did you mean source?"),
        (("--data.source.init_args.stge", "x"), "did you mean stage?"),
        (("--gate.margn", "1"), "did you mean margin?"),
        (("--data.source", "regrow.data.formats.Cocoo"), "did you mean regrow.data.formats.Coco?"),
        (("--sparsity", "kep"), "did you mean keep?"),
        (("--task.optimization.optimizer", "adam"), "did you mean adamw?"),
        (("--removed", "[no]"), "takes for true or false, such as no, needs quotes"),
        (("--removed", "[1]"), "looks like a number needs quotes, '\"1\"'"),
    ],
)
def test_options_of_training(words: tuple[str, ...], meant: str) -> None:
    assert meant in said(train, *TRAIN, *words)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("fit: {epoch: 3}", "did you mean fit.epochs?"),
        ("fitt: {epochs: 3}", "did you mean fit.epochs?"),
        ("fit: {epochs: 3.0}", "fit.epochs.*; write 3;"),
        ("fit: {patience: None}", "write null;"),
        ('data: {init_args: {size: "(32, 32)"}}', r"write \[32, 32\];"),
        ("data: {init_args: {sizze: [3, 3]}}", "did you mean size?"),
        ("task: {init_args: {nett: x}}", "did you mean task.net?"),
        ("task: {init_args: {optimization: {lrr: 1}}}", "did you mean task.optimization.lr?"),
        (
            "data: {augment: [{class_path: torchvision.transforms.v2.RandomHorizontalFlp}]}",
            "did you mean torchvision.transforms.v2.RandomHorizontalFlip?",
        ),
        (
            "data: {augment: [{class_path: torchvision.transforms.v2.RandomAffine, "
            "init_args: {degrees: 1, sheer: 2}}]}",
            "did you mean shear?",
        ),
    ],
)
def test_keys_of_a_config(tmp_path: Path, text: str, meant: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(BadInput, match=meant.replace("?", r"\?")):
        train([*TRAIN, "--config", str(file)])


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("--criterion", "Taylr"), "did you mean Taylor?"),
        (("--selection.scop", "x"), "did you mean --selection.scope?"),
        (("--budget.max_dropp", "1"), "did you mean --budget.max_drop?"),
        (("--clock.runtime", "onnx"), "did you mean onnxruntime?"),
    ],
)
def test_options_of_pruning(words: tuple[str, ...], meant: str) -> None:
    assert meant in said(prune, "--checkpoint", "x.ckpt", *words)


def test_options_of_export_and_compare() -> None:
    assert "did you mean --tolerance?" in said(export, "x.ckpt", "--tolerence", "1")
    assert "did you mean float32?" in said(export, "x.ckpt", "--input_type", "float23")
    assert "did you mean" in said(compare, "--confg", "x")


@pytest.mark.parametrize("word", ["--zzz", "--fit.zzzzzz", "--data.zzzzzz"])
def test_nothing_is_suggested_where_nothing_is_close(word: str) -> None:
    assert "did you mean" not in said(train, *TRAIN, word, "3")
