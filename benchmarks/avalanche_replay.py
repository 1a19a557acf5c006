"""Avalanche's replay beside regrow's: two new classes of CIFAR-10, and a memory of the old images.

    python benchmarks/incremental.py --data FOLDER --scenario replay --side 16 --run RUN
    python -m venv ENV && ENV/bin/pip install avalanche-lib==0.6.0
    python benchmarks/avalanche_replay.py --data FOLDER --run RUN --python ENV/bin/python

The first line trains the old networks, each with a memory, and regrow's warm starts. Avalanche is
given the very same: the weights that a warm start begins with (old rows kept, new ones drawn from
the seed), the memory's training images as the buffer of its `ReplayPlugin`, the new images, as many
steps as a warm start of `--epochs` has, as many images a step, crops and flips, and the optimizer
and schedule of `cifar_recipe.py`, which are regrow's. Options that both lines have must be equal.

Avalanche's replay draws a number of new images and a number of the memory's for each step; here
their sum is the batch size. `half` of each is its default; `by class`, the memory's share is that
of the old classes. Six settings, three rates with either, are tried at a seed of their own, as many
as regrow has; the mean of the classes' scores on validation images of all classes chooses. So with
`ReplayPlugin` alone, and with `LwFPlugin` beside it, which distills; its weight is 4, which is 1 in
regrow, where the divergence is multiplied by the square of the temperature, 2.

A network is the one after the last step, where the rate is zero; all test images score it. What is
done lies in `--run` and is not done again. Prints a JSON line a trained network, then means over
seeds with 95 % intervals, for regrow too, and the differences from the first row.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from regrow.data.batches.examples import collate
from regrow.data.formats import Torchvision
from regrow.data.module import GrowingData
from regrow.data.staged import Staged
from regrow.files import read_json, write_atomic, write_json
from regrow.incremental.growth import Growth
from regrow.incremental.parent import Parent
from regrow.metrics.differences import seed_interval
from regrow.models.checkpoint import load
from regrow.pipelines.experiments.standings import COLUMNS, Standing, differences_from, rows_of
from regrow.pipelines.experiments.trials import Setup, Trial, run
from regrow.reporting.report import markdown_table

JOB = Path(__file__).with_name("avalanche_job.py")
LATE = ["ship", "truck"]
SPLITS, LWF_WEIGHTS = ("half", "by class"), (0.0, 4.0)
TUNING_SEED = 100
PARTS = {"old": "old", "new": "new", "all": "all"}


@dataclass(frozen=True)
class Setting:
    """A candidate: how Avalanche trains.

    Args:
        rate: The peak learning rate.
        split: How a step's images are divided into new and old ones, one of `SPLITS`.
        lwf: Weight of its distillation; 0 leaves it out.
    """

    rate: float
    split: str
    lwf: float

    @property
    def name(self) -> str:
        """Return the settings in short."""
        distilled = f", LwF {self.lwf:g}" if self.lwf > 0 else ""
        return f"{self.split}, lr {self.rate:g}{distilled}"


@dataclass(frozen=True)
class AvalancheTrial(Trial):
    """A trial with its scores.

    Args:
        candidate: The setting's name.
        seed: The seed.
        steps: The optimizer's steps.
        val: The mean score over classes, on validation images.
        parts: The mean scores over `old`, `new` and `all` classes, on test images.
        seconds: Processor time.
    """

    steps: int
    val: float
    parts: dict[str, float]
    seconds: float


class Sides(Setup[Setting, AvalancheTrial]):
    """The terms that both sides share, under which Avalanche's networks are trained.

    Args:
        options: The command's options.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: Path = options.run / "avalanche"

    @cached_property
    def stages(self) -> tuple[GrowingData, GrowingData]:
        """Return the old data and all data, as `incremental.py` reads them, not augmented."""
        options, cifar = self.options, Torchvision("torchvision.datasets.CIFAR10")
        before, after = (
            GrowingData(
                Staged(cifar, stage, late_classes=LATE, max_images=options.images),
                options.data / "cifar10" if options.data else Path("cifar10"),
                size=(options.side, options.side),
                batch_size=options.batch_size,
                val_share=options.val_share,
            )
            for stage in ("before", "after")
        )
        return before, after

    def start(self, seed: int) -> Path:
        """Write the weights and images that a warm start of regrow has, and return their folder."""
        options, folder = self.options, (self.folder / f"start_{seed}").absolute()
        if (folder / "images.pt").is_file():
            return folder
        pattern = f"classes/{options.parent}_{seed}/run/best.ckpt"
        parents = sorted(options.run.glob(pattern))
        if len(parents) != 1:
            raise SystemExit(f"{options.run}/{pattern}: {len(parents)} checkpoints; set --parent")
        before, after = self.stages
        data, whole, task = after.later_than(before), after.copy(), load(parents[0])
        held: dict[str, Any] = {"num_old": len(task.classes)}
        Growth().begin_(task, data, Parent(parents[0]), options.epochs, seed=seed)
        whole.order_classes(task.classes)
        for split, source in {"train": data, "val": whole, "test": whole}.items():
            examples = source.examples(split)
            held[split] = collate([examples[(0, index)] for index in range(len(examples))])
        items = data.examples("train").items
        held["is_memory"] = torch.tensor([item.name.startswith("memory/") for item in items])
        held |= {"mean": task.mean.flatten().tolist(), "std": task.std.flatten().tolist()}
        held["classes"] = task.classes
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(task.net.state_dict(), folder / "weights.pt")
        write_atomic(folder / "images.pt", lambda out: torch.save(held, out))
        return folder

    def file(self, candidate: Setting, seed: int) -> Path:
        """Return the path of a trial's JSON."""
        setting, epochs = candidate, self.options.epochs
        name = f"{setting.split}_{setting.lwf:g}_{setting.rate:g}_{epochs}_{seed}"
        return self.folder / name.replace(" ", "-") / "trained.json"

    def checkpoint(self, candidate: Setting, seed: int) -> Path:
        """Return the path of a trial's network."""
        return self.file(candidate, seed).with_name("net.ckpt")

    def read(self, values: Mapping[str, Any]) -> AvalancheTrial:
        """Return the trial that the values of a JSON stand for."""
        return AvalancheTrial(**values)

    def train(self, candidate: Setting, seed: int) -> AvalancheTrial:
        """Train in Avalanche's environment."""
        options, folder = self.options, self.file(candidate, seed).parent
        job = asdict(candidate) | {"seed": seed, "start": str(self.start(seed))}
        job |= {"epochs": options.epochs, "batch": options.batch_size, "net": options.net}
        write_json(folder / "job.json", job)
        with (folder / "said.txt").open("w", encoding="utf-8") as said:
            line = [options.python, str(JOB), str(folder)]
            subprocess.run(line, check=True, stdout=said, stderr=said)
        values = read_json(folder / "trained.json")
        print(json.dumps({"run": str(folder)} | values), flush=True)
        return AvalancheTrial(candidate.name, seed, **values)


def regrow_results(folder: Path, seeds: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """Read what `incremental.py` left of networks that were trained at all seeds."""
    found = {}
    for one in [*folder.glob("cifar10/scratch_*"), *folder.glob("replay/warm_*")]:
        named = re.fullmatch(rf"(.+)_{seeds[0]}(_from_.+)?", one.name)
        if named is None:
            continue
        folders = [one.with_name(f"{named[1]}_{seed}{named[2] or ''}") for seed in seeds]
        if all((own / "scored_replay.json").is_file() for own in folders):
            found[f"regrow, {named[1]}"] = [
                read_json(own / "trained.json") | read_json(own / "scored_replay.json")
                for own in folders
            ]
    return found


def tables(steps: Mapping[str, int], standings: Sequence[Standing]) -> str:
    """Return means over seeds in percent with their intervals, and differences from the first."""
    rows = []
    for one in standings:
        row = [one.name, str(steps[one.name])]
        for part in PARTS:
            ends = seed_interval([100 * score for score in one.figures[part]])
            told = f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else ""
            row.append(f"{100 * one.mean(part):.2f}{told}")
        rows.append(row)
    means = markdown_table(["", "steps", *(f"{part} %" for part in PARTS)], rows)
    first, *others = standings
    differences = markdown_table(COLUMNS, rows_of(differences_from(first, others), PARTS))
    said = f"Differences from `{first.name}`, with 95 % intervals over seeds:"
    return f"{means}\n\n{said}\n\n{differences}"


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the folder that holds cifar10")
    parser.add_argument("--run", type=Path, default=Path("runs/incremental"))
    parser.add_argument("--python", default=sys.executable, help="of Avalanche's environment")
    parser.add_argument("--parent", default="parent_*", help="old networks in --run, less the seed")
    parser.add_argument("--net", default="cifar_resnet20")
    parser.add_argument("--images", type=int, help="of each of train and test; by default all")
    parser.add_argument("--val-share", type=float, default=0.1)
    parser.add_argument("--side", type=int, default=16, help="of the images, in pixels")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4, help="of regrow's warm start")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.003, 0.01, 0.03])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


def main() -> None:
    """Train, and print the tables."""
    options = read_options()
    torch.set_num_threads(1)
    sides, results = Sides(options), {}
    for lwf in LWF_WEIGHTS:
        tries = [Setting(rate, split, lwf) for split in SPLITS for rate in options.rates]
        found = run(sides, tries, [TUNING_SEED])
        chosen = max(tries, key=lambda setting: found[setting.name][0].val)
        own = run(sides, [chosen], options.seeds)[chosen.name]
        results[f"Avalanche, {chosen.name}"] = [asdict(trial) for trial in own]
    results |= regrow_results(options.run, options.seeds)
    standings = [
        Standing(name, {part: [one["parts"][part] for one in own] for part in PARTS}, {})
        for name, own in results.items()
    ]
    print(tables({name: own[0]["steps"] for name, own in results.items()}, standings))


if __name__ == "__main__":
    main()
