"""What the options of training do, seen in the weights they lead to."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regrow.models.checkpoint import load, net_state, read
from regrow.pipelines import commands

Words = Callable[..., list[str]]
Folder = Callable[..., Path]


def trained(words: list[str]) -> dict[str, torch.Tensor]:
    report = commands.train(words)
    return net_state(read(report.run / "last.ckpt"))


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    parts = [(one[name].float() - other[name].float()).norm() for name in one]
    return float(torch.stack(parts).norm())


@pytest.fixture
def weights(folder: Folder, words: Words) -> Callable[..., dict[str, torch.Tensor]]:
    root, count = folder(), iter(range(100))

    def make(*options: str) -> dict[str, torch.Tensor]:
        return trained(words(root, f"run{next(count)}", *options))

    return make


def test_precision_and_memory_format_change_the_weights_a_little(weights) -> None:
    plain, still = weights(), weights("--task.optimization.lr=0")
    way = distance(plain, still)
    for option in ("--fit.precision=bf16-mixed", "--task.channels_last=true"):
        # AdamW normalises the gradients: small differences of rounding become steps.
        assert 0 < distance(plain, weights(option)) < way


def test_clipping_bounds_the_step(weights) -> None:
    sgd = ["--task.optimization.optimizer=sgd", "--task.optimization.weight_decay=0"]
    sgd += ["--task.optimization.lr=1", "--task.optimization.momentum=0"]
    still = weights("--task.optimization.lr=0")
    clipped = weights(*sgd, "--fit.clip=1e-5")
    moved = {name for name in still if "running" not in name and "num_batches" not in name}
    # Six steps of a gradient of norm 1e-5 at a rate of 1 or less.
    assert 0 < distance({n: still[n] for n in moved}, {n: clipped[n] for n in moved}) <= 6.1e-5


def test_clipping_in_mixed_precision(weights) -> None:
    mixed = "--fit.precision=bf16-mixed"
    assert distance(weights(mixed), weights(mixed, "--fit.clip=1e-3")) > 0


def test_a_moving_average_of_no_memory_is_the_weights_themselves(weights) -> None:
    plain, averaged = weights(), weights("--fit.ema=0")
    assert all(torch.equal(plain[name], averaged[name]) for name in plain)
    assert distance(plain, weights("--fit.ema=0.99")) > 0


@pytest.mark.slow
def test_a_compiled_net_learns_the_same_and_is_saved_plain(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    root = folder()
    plain = trained(words(root, "plain"))
    compiled = trained(words(root, "compiled", "--task.compile_net=true"))
    assert compiled.keys() == plain.keys()
    still = trained(words(root, "still", "--task.optimization.lr=0"))
    assert distance(plain, compiled) < distance(plain, still)
    assert not hasattr(load(tmp_path / "compiled" / "best.ckpt").net, "_orig_mod")


@pytest.mark.gpu
@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_the_loop_runs_on_a_gpu(task: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    scenes = [f"--data.source.num_{split}=32" for split in ("train", "val", "test")]
    source = [] if task == "classification" else scenes
    run = tmp_path / "train"
    config = f"--config={root / 'configs' / f'{task}.yaml'}"
    report = commands.train([config, *source, "--fit.epochs=1", f"--run={run}"])
    assert "CPU" not in report.figures["device"]
    assert 0 <= report.figures["score"]["value"] <= 1
    smaller = f"--config={root / 'configs' / f'{task}_prune.yaml'}"
    options = ["--recovery.epochs=1", "--num_steps=1", "--budget.max_drop=1"]
    options.append("--search.candidates=4")
    pruned = commands.prune(
        [smaller, f"--checkpoint={run / 'best.ckpt'}", *options, f"--run={tmp_path / 'prune'}"]
    )
    assert pruned.figures["after"]["macs"] <= 0.5 * pruned.figures["before"]["macs"]
    exported = commands.export(
        [str(tmp_path / "prune" / "pruned.ckpt"), f"--run={tmp_path / 'export'}"]
    )
    assert exported.figures["onnx"]["max_abs_diff"] < 1e-3
