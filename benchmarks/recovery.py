"""What fine-tuning after a cut is worth, with and without distillation, for the three tasks.

    python benchmarks/recovery.py --tasks classification detection segmentation --seeds 0 1 2 3 4
    python benchmarks/recovery.py --tasks camvid --data FOLDER --seeds 0 1 2   # hours on a CPU

The network of a task's config is trained once a seed, and pruned by its pruning config, at once to
`--macs`, with fine-tuning as each variant says; all else is alike. Prints one JSON line a seed and
variant, then the mean test scores and the differences from the first variant by seed, with their
95 % interval by Student's t.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from pruner_table import difference, mean_of

from regrow.pipelines import commands

CONFIGS = Path(__file__).parents[1] / "configs"
VARIANTS: dict[str, list[str]] = {
    "plain": ["--distillation=null"],
    "raw outputs": ["--distillation.weight=1"],
    "raw outputs, T 4": ["--distillation.weight=1", "--distillation.temperature=4"],
    "channel-wise": ["--distillation.weight=0", "--distillation.channels=1"],
    "raw outputs and channel-wise": ["--distillation.weight=1", "--distillation.channels=1"],
    "raw outputs and attention": ["--distillation.weight=1", "--distillation.features=100"],
}


def measure(options: argparse.Namespace, task: str, seed: int) -> list[dict[str, Any]]:
    """Train a network with one seed, and prune it by each variant; return the figures of each."""
    data = [f"--data.root={options.data / task}"] if options.data else []
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        dense, words = Path(folder, "dense"), [f"--seed={seed}", *data]
        commands.train([f"--config={CONFIGS / task}.yaml", *words, f"--run={dense}"])
        for name in options.variants:
            run = Path(folder, name.replace(" ", "-"))
            words = [f"--checkpoint={dense / 'best.ckpt'}", f"--run={run}", f"--seed={seed}", *data]
            words += [f"--target={{macs: {options.macs}}}", "--num_steps=1", "--budget.max_drop=1"]
            words += [f"--recovery.epochs={options.epochs}", "--clock.runtime=torch"]
            words += [*VARIANTS[name], *options.more]
            figures = commands.prune([f"--config={CONFIGS / task}_prune.yaml", *words]).figures
            row = {
                "task": task,
                "variant": name,
                "seed": seed,
                "before": figures["before"]["score"],
                "test": figures["after"]["score"],
                "share": figures["after"]["macs"] / figures["before"]["macs"],
                "seconds": figures["seconds"],
                "more": options.more,
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the mean scores of each task and variant, and their differences, as Markdown."""
    lines = [
        "| task | fine-tuning | seeds | before | after | difference |",
        "|---|---|---|---|---|---|",
    ]
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        groups = {name: [r for r in own if r["variant"] == name] for name in VARIANTS}
        groups = {name: group for name, group in groups.items() if group}
        first = next(iter(groups.values()))
        for name, group in groups.items():
            before, after = (mean_of([100 * r[key] for r in group]) for key in ("before", "test"))
            apart = difference(group, first)
            lines.append(f"| {task} | {name} | {len(group)} | {before} | {after} | {apart} |")
    return "\n".join(lines)


def main() -> None:
    """Measure each task with every seed, and print what came of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    demos = ["classification", "detection", "segmentation"]
    parser.add_argument("--tasks", nargs="+", default=demos, help="names of configs")
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS], default=[*VARIANTS])
    parser.add_argument("--data", type=Path, help="the folder of real sets")
    parser.add_argument("--macs", type=float, default=0.3, help="share that is kept")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--more", nargs="*", default=[], help="further words of scripts/prune.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    torch.set_num_threads(options.threads)
    rows = [
        row for task in options.tasks for s in options.seeds for row in measure(options, task, s)
    ]
    print(table(rows))


if __name__ == "__main__":
    main()
