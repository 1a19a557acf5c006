"""The whole loop on the built-in sample: train, grow, prune, export, serve, watch."""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console

import regrow.configs
from regrow.cli import parse
from regrow.data.config import DATA_FILE
from regrow.guard import command
from regrow.monitor.hours.folders import PAGE
from regrow.pipelines.commands import export, prune, train
from regrow.pipelines.demonstration.service import ask_served, watch
from regrow.pipelines.lead import SPLIT
from regrow.reporting.lock import releases_folders
from regrow.reporting.markup import Markdown
from regrow.reporting.report import Report, before_after_table
from regrow.reporting.run_folder import open_run

CONFIGS = Path(regrow.configs.__file__).parent


@releases_folders
def run_demo(
    task: Literal["classification", "detection", "segmentation"] = "classification",
    runs: Path = Path("runs"),
    command_line: str = "",
) -> Report:
    """Train on part of the sample, warm-start on all of it, prune, export, serve, and report.

    Args:
        task: Which of the three tasks.
        runs: The folder that the demo's run folder is made in.
        command_line: The command, for the report.

    Returns:
        The report, written into `demo-<task>/`.
    """
    started, console = time.monotonic(), Console(markup=False)
    folder = open_run(runs / f"demo-{task}", command_line)
    config = ["--config", str(CONFIGS / f"{task}.yaml")]
    young = ["--config", str(CONFIGS / f"{task}_young.yaml")]

    console.rule(f"1 of 6: train on the data there is ({task})")
    train([*config, *young, "--run", str(folder / "train")])

    console.rule("2 of 6: the data has grown: warm start")
    parent = folder / "train" / "best.ckpt"
    grown = train([*config, "--warm-start", str(parent), "--run", str(folder / "grow")])
    for name in ("best.ckpt", DATA_FILE):
        shutil.copyfile(folder / "grow" / name, folder / name)

    console.rule("3 of 6: prune under an accuracy budget")
    smaller = ["--config", str(CONFIGS / f"{task}_prune.yaml")]
    dense = ["--checkpoint", str(folder / "best.ckpt")]
    pruned = prune([*smaller, *dense, "--run", str(folder / "prune")])
    shutil.copyfile(folder / "prune" / "pruned.ckpt", folder / "pruned.ckpt")

    console.rule("4 of 6: export, and verify in ONNX Runtime")
    exported = export([str(folder / "prune" / "pruned.ckpt"), "--run", str(folder / "export")])
    shutil.copyfile(folder / "export" / "model.onnx", folder / "model.onnx")
    report = _report(folder, command_line, grown, pruned, exported)
    report.write()
    page = _put_into_service(report, folder, console)
    report.set(seconds=round(time.monotonic() - started, 1), seeds=[0])
    report.write()
    figures = report.figures
    console.print(before_after_table(figures["before"], figures["after"], figures["score"]["name"]))
    console.print(f"TensorBoard: {_tensorboard()} --logdir {folder}", soft_wrap=True)
    console.print(f"report:      {folder / 'report.md'}", soft_wrap=True)
    console.print(f"monitor:     {page}", soft_wrap=True)
    return report


def _put_into_service(report: Report, folder: Path, console: Console) -> Path:
    """Serve and watch the exported model, add to the report, and return the monitor's page."""
    model, page = folder / "model.onnx", Path("monitor", PAGE)
    console.rule("5 of 6: serve the pruned model, and send it pictures")
    asked = ask_served(model, folder, console)
    console.rule("6 of 6: watch it, while the light goes")
    report.set(service=asked | watch(model, folder, console))
    report.add_section("watch", Markdown(f"[the monitor's page]({page.as_posix()})"))
    console.rule()
    return folder / page


def _tensorboard() -> str:
    """Return TensorBoard's command: its name, or its path in an environment that is not active."""
    beside = Path(sys.executable).with_name("tensorboard")
    if shutil.which("tensorboard") or not beside.is_file():
        return "tensorboard"
    return shlex.quote(os.path.relpath(beside))


def _report(
    folder: Path, command_line: str, grown: Report, pruned: Report, exported: Report
) -> Report:
    """Join the reports of the last three steps in one."""
    figures = pruned.figures
    report = Report(
        folder,
        title=f"The whole loop: {figures['task']}",
        command=command_line,
        task=figures["task"],
        classes=figures["classes"],
    )
    name = figures["score"]["name"]
    report.set(
        score=grown.figures["score"],
        data=grown.figures["data"],
        parent=grown.figures["parent"],
        budget=figures["budget"],
        onnx=exported.figures["onnx"],
        grown_per_class=grown.figures["per_class"],
    )
    change = grown.figures["data"]["diff"]["text"]
    report.say(
        f"A model was trained, warm-started when the data grew ({change}), pruned, exported and "
        f"verified. Dense, it reaches {name} {grown.figures['score']['value']:.4f} on "
        f"{SPLIT[grown.figures['score']['images']]} images."
    )
    report.add_before_after(figures["before"], figures["after"], name)
    for step in ("train", "grow", "prune", "export"):
        report.add_section(step, Markdown(f"[its own report]({step}/report.md)"))
    report.add_picture(folder / "prune" / "predictions.png", "The pruned model: truth, prediction")
    return report


def demo(args: Sequence[str] | None = None) -> Report:
    """Run the whole loop on the built-in sample: train, grow, prune, export, serve, watch."""
    values, _ = parse(run_demo, args, description=demo.__doc__ or "", skip=["command_line"])
    return run_demo(**values, command_line=command("demo", args))
