"""A network whose weights have 16 bits goes through the whole loop, as any other."""

from pathlib import Path

import pytest
import torch

from regrow.models.checkpoint import load
from regrow.models.classification import Classification
from regrow.models.latency import Clock
from regrow.pipelines import commands

CONFIG = Path(__file__).parents[2] / "configs" / "classification.yaml"
WORDS = ["--config", str(CONFIG), "--data.max_images=120", "--fit.images=0", "--fit.epochs=1"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_networks_in_half_precision_are_timed(dtype: torch.dtype) -> None:
    task = Classification(["a", "b"], (32, 32)).to(dtype).eval()
    clock = Clock(runtime="onnxruntime", rounds=3)
    before, after = clock.beside(task)(task)
    assert before > 0
    assert after > 0


@pytest.mark.slow
def test_a_network_in_bfloat16_is_warm_started_pruned_and_exported(tmp_path: Path) -> None:
    first, second, smaller = tmp_path / "first", tmp_path / "second", tmp_path / "smaller"
    half = "--fit.precision=bf16-true"
    commands.train([*WORDS, half, f"--run={first}"])
    assert load(first / "best.ckpt").mean.dtype == torch.bfloat16
    commands.train([*WORDS, half, f"--warm_start={first / 'best.ckpt'}", f"--run={second}"])
    # Back in single precision, as by default.
    commands.train([*WORDS, f"--warm_start={first / 'best.ckpt'}", f"--run={tmp_path / 'third'}"])
    assert load(tmp_path / "third" / "best.ckpt").mean.dtype == torch.float32
    commands.prune(
        [
            *(f"--checkpoint={second / 'best.ckpt'}", f"--run={smaller}", "--num_steps=1"),
            *("--recovery.epochs=1", "--recovery.precision=bf16-true", "--budget.max_drop=1.0"),
            *("--target.macs=0.8", "--search=null"),
        ]
    )
    commands.export([str(smaller / "pruned.ckpt"), f"--run={tmp_path / 'out'}"])
    assert (tmp_path / "out" / "model.onnx").is_file()
