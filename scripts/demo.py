"""Run the whole loop on the built-in sample: train, grow, prune, export, verify.

    python scripts/demo.py --task classification      # or detection, segmentation
"""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

import regrow.configs
from regrow.models.command import parse
from regrow.models.report import Report, before_after_table
from regrow.models.run import command, guard, open_run
from regrow.scripts import export, prune, train

CONFIGS = Path(regrow.configs.__file__).parent


def run_demo(
    task: Literal["classification", "detection", "segmentation"] = "classification",
    runs: Path = Path("runs"),
    command_line: str = "",
) -> Report:
    """Train on part of the sample, warm-start on all of it, prune, export, and report.

    Args:
        task: Which of the three tasks.
        runs: The folder that the demo's run folder is made in.
        command_line: The command, for the report.

    Returns:
        The report, written into `demo-<task>/`.
    """
    started, console = time.monotonic(), Console()
    folder = open_run(runs / f"demo-{task}")
    config = ["--config", str(CONFIGS / f"{task}.yaml")]
    young = ["--config", str(CONFIGS / f"{task}_young.yaml")]

    console.rule(f"1 of 4: train on the data there is ({task})")
    train.run([*config, *young, "--run", str(folder / "train")])

    console.rule("2 of 4: the data has grown: warm start")
    parent = folder / "train" / "best.ckpt"
    grown = train.run([*config, "--warm-start", str(parent), "--run", str(folder / "grow")])
    shutil.copyfile(folder / "grow" / "best.ckpt", folder / "best.ckpt")

    console.rule("3 of 4: prune under an accuracy budget")
    smaller = ["--config", str(CONFIGS / f"{task}_prune.yaml")]
    dense = ["--checkpoint", str(folder / "best.ckpt")]
    pruned = prune.run([*smaller, *dense, "--run", str(folder / "prune")])
    shutil.copyfile(folder / "prune" / "pruned.ckpt", folder / "pruned.ckpt")

    console.rule("4 of 4: export, and verify in ONNX Runtime")
    exported = export.run(
        [str(folder / "pruned.ckpt"), *smaller_data(smaller), "--run", str(folder / "export")]
    )
    shutil.copyfile(folder / "export" / "model.onnx", folder / "model.onnx")
    return _report(folder, command_line, grown, pruned, exported, time.monotonic() - started)
