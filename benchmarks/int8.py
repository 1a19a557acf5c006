"""Float, pruned, INT8, and pruned + INT8: score, size, latency and the verdict of each.

    python benchmarks/int8.py --resnet20 --images 10000
    python benchmarks/int8.py runs/bccd/best.ckpt runs/bccd_prune/pruned.ckpt
    python benchmarks/int8.py runs/camvid/best.ckpt runs/camvid_prune/pruned.ckpt

The first checkpoint is the unpruned network; any number of pruned ones follow. Their data is that
of the `data.yaml` beside the first. `--resnet20` makes both instead: the trained ResNet-20 under
REGROW_DATA, and what the ranking leaves of it at `--speedup`, with norms measured anew and without
any training. Each network is exported, verified and quantised as `scripts/export.py --int8` does;
scores are those on test images in ONNX Runtime. Verdicts are those of the change from the unpruned
network in float. All files are timed in the same rounds. Prints a line of JSON for each row, then
the table.
"""

import argparse
import json
import os
import statistics
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from cifar_recipe import MEAN, SIDE, STD, unpacked

from regrow.data.config import data_beside
from regrow.data.formats.torchvision import Torchvision
from regrow.data.module import GrowingData
from regrow.deploy.exporting import export_verified
from regrow.deploy.runtime import OnnxModel
from regrow.metrics.budget import Budget, decide
from regrow.models.checkpoint import load
from regrow.models.classification import Classification
from regrow.models.latency import Clock, time_files
from regrow.models.task import Task
from regrow.pipelines.pruning.report import decided_in_a_word
from regrow.pipelines.quantization import FLOAT_FILE, Calibration, Network, quantize_verified
from regrow.prune.criteria import ConsumerMagnitude
from regrow.prune.engine import prune
from regrow.prune.removal import Channels
from regrow.prune.selection import Selection
from regrow.prune.target import Target


def given(files: list[Path]) -> tuple[GrowingData, dict[str, Task]]:
    """Return the data of checkpoints, and the networks by the name of their row."""
    data = data_beside(files[0])
    tasks = [load(file, kind=data.kind).float() for file in files]
    data.keep_splits_(tasks[0].provenance.manifest)
    data.order_classes(tasks[0].classes)
    numbers = range(1, len(files))
    names = ["", *(f"pruned {n}" if len(files) > 2 else "pruned" for n in numbers)]
    return data, dict(zip(names, tasks, strict=True))


def resnet20(images: int, speedup: float) -> tuple[GrowingData, dict[str, Task]]:
    """Return CIFAR-10, and ResNet-20 as it was trained and as it is cut."""
    root = Path(os.environ.get("REGROW_DATA", "."))
    source = Torchvision("torchvision.datasets.CIFAR10")
    data = GrowingData(
        source, unpacked(root / "cifar10"), size=(SIDE, SIDE), batch_size=128, max_images=images
    )
    weights = str(root / "weights" / "cifar10_resnet20.pth")
    scale: dict[str, Any] = {"mean": MEAN, "std": STD}
    dense = Classification(
        data.classes, (SIDE, SIDE), net="cifar_resnet20", weights=weights, **scale
    )
    removal = Channels(
        dense,
        Target(macs=1 / speedup),
        Selection(round_to=4, per="macs", max_share=0.8),
        ConsumerMagnitude(),
    )
    result = prune(
        dense,
        removal,
        train_loader=data.train_dataloader(),
        val_loader=data.val_dataloader(),
        test_loader=data.val_dataloader(),  # the test images are looked at below
        num_steps=1,
        adapts=False,
        budget=Budget(max_drop=1.0),
    )
    return data, {"": dense.eval(), "pruned": result.task.eval()}


def measure(
    data: GrowingData, tasks: dict[str, Task], budget: Budget, num_images: int, rounds: int
) -> list[dict[str, Any]]:
    """Return the figures of each network in float and in INT8, in the order of the table."""
    calibration, tests = Calibration(data, num_images, 0), data.test_dataloader()
    networks: dict[str, Network] = {}
    files: dict[str, Path] = {}
    with TemporaryDirectory(prefix="regrow-int8-") as folder:
        for name, task in tasks.items():
            place = Path(folder) / (name or "dense")
            place.mkdir()
            parity = export_verified(task, place / FLOAT_FILE, tests)
            made = quantize_verified(task, None, parity.path, data, calibration, budget)
            for precision, file in {"float": parity.path, "INT8": made.path}.items():
                row = " + ".join(filter(None, (name, precision * (precision == "INT8"))))
                networks[row or "float"], files[row or "float"] = made.networks[precision], file
        model = OnnxModel(files["float"])
        images = model.as_input(tasks[""].example_images().numpy(force=True))
        times = time_files(files, images, Clock(rounds=rounds))
    before = networks["float"].evaluation
    return [
        {
            "row": row,
            before.name: round(own.evaluation.value, 4),
            "bytes": own.num_bytes,
            "latency_ms": round(statistics.median(times[row]), 4),
            **asdict(decide(before.evidence, own.evaluation.evidence, budget)),
        }
        for row, own in networks.items()
    ]


def table(rows: list[dict[str, Any]], name: str) -> str:
    """Return the rows as Markdown, with costs as shares of the first."""
    lines = [
        f"| network | {name}, % | change, points | interval | budget | kilobytes | ms | time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    first = rows[0]
    for row in rows:
        low, high = (100 * end for end in row["interval"])
        verdict = decided_in_a_word(row["is_met"]) if row is not first else "-"
        lines.append(
            f"| {row['row']} | {100 * row[name]:.2f} | {100 * (row[name] - first[name]):+.2f} "
            f"| [{low:+.2f}, {high:+.2f}] | {verdict} | {row['bytes'] / 1000:.0f} "
            f"| {row['latency_ms']:.3f} | {row['latency_ms'] / first['latency_ms']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure the networks that are named, and print what came of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", type=Path, nargs="*", help="the unpruned one, then others")
    parser.add_argument("--resnet20", action="store_true", help="make the networks instead")
    parser.add_argument("--images", type=int, default=10_000, help="of a split, for --resnet20")
    parser.add_argument("--speedup", type=float, default=2.11, help="MACs before / after, likewise")
    parser.add_argument("--max-drop", type=float, default=0.01)
    parser.add_argument("--calibration-images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=100, help="of timing")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.resnet20 == bool(options.checkpoints):
        parser.error("give checkpoints or --resnet20")
    torch.set_num_threads(options.threads)
    data, tasks = (
        resnet20(options.images, options.speedup)
        if options.resnet20
        else given(options.checkpoints)
    )
    budget = Budget(options.max_drop)
    rows = measure(data, tasks, budget, options.calibration_images, options.rounds)
    for row in rows:
        print(json.dumps(row))
    print(table(rows, tasks[""].score))


if __name__ == "__main__":
    main()
