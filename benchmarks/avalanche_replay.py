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
done lies in `--run` and is not done again. Prints a JSON line a trained network, and means over
seeds with 95 % intervals, for regrow too.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from cifar_recipe import Recipe, dense_net
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

LATE = ["ship", "truck"]
SPLITS, LWF_WEIGHTS = ("half", "by class"), (0.0, 4.0)
TUNING_SEED = 100


@dataclass(frozen=True)
class Setting:
    """How Avalanche trains.

    Args:
        rate: The peak learning rate.
        split: How a step's images are divided into new and old ones, one of `SPLITS`.
        lwf: Weight of its distillation; 0 leaves it out.
    """

    rate: float
    split: str
    lwf: float

    def __str__(self) -> str:
        return f"{self.split}, lr {self.rate:g}" + f", LwF {self.lwf:g}" * (self.lwf > 0)


class Sides:
    """What both sides share, and Avalanche's networks, each trained once.

    Args:
        options: The command's options.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.run: Path = options.run / "avalanche"

    @cached_property
    def stages(self) -> tuple[Any, Any]:
        """Give the old data and all data, as `incremental.py` reads them, not augmented."""
        from regrow.data.formats import Torchvision
        from regrow.data.module import GrowingData
        from regrow.data.staged import Staged

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
        """Write down what a warm start of regrow has, and give the folder."""
        from regrow.data.examples import collate
        from regrow.files import write_atomic
        from regrow.incremental.growth import Growth
        from regrow.models.checkpoint import load

        options, folder = self.options, (self.run / f"start_{seed}").absolute()
        if (folder / "images.pt").is_file():
            return folder
        pattern = f"classes/{options.parent}_{seed}/run/best.ckpt"
        parents = sorted(options.run.glob(pattern))
        if len(parents) != 1:
            raise SystemExit(f"{options.run}/{pattern}: {len(parents)} checkpoints; set --parent")
        before, after = self.stages
        data, whole, task = after.later_than(before), after.copy(), load(parents[0])
        held: dict[str, Any] = {"num_old": len(task.classes)}
        Growth().begin_(task, data, parents[0], options.epochs, renamed={}, removed=[], seed=seed)
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

    def train(self, setting: Setting, seed: int) -> dict[str, Any]:
        """Train in Avalanche's environment, and give what came of it."""
        options = self.options
        name = f"{setting.split}_{setting.lwf:g}_{setting.rate:g}_{options.epochs}_{seed}"
        folder = self.run / name.replace(" ", "-")
        if not (folder / "trained.json").is_file():
            job = asdict(setting) | {"seed": seed, "start": str(self.start(seed))}
            job |= {"epochs": options.epochs, "batch": options.batch_size, "net": options.net}
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
            with (folder / "said.txt").open("w", encoding="utf-8") as said:
                line = [options.python, __file__, "--job", str(folder)]
                subprocess.run(line, check=True, stdout=said, stderr=said)
        trained = read(folder)
        print(json.dumps({"run": str(folder)} | trained), flush=True)
        return trained


class Course:
    """Avalanche's plugin of the schedule: sets the rate before each step, and ends the training.

    Args:
        recipe: The schedule.
        steps: The number of optimizer steps.
    """

    def __init__(self, recipe: Recipe, steps: int) -> None:
        self.recipe, self.steps = recipe, steps
        self.done, self.images = 0, 0

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Set the rate."""
        for group in strategy.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.done / self.steps)

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Count, and stop after the last step."""
        self.done += 1
        self.images += len(strategy.mb_x)
        if self.done == self.steps:
            strategy.stop_training()


def train_with_avalanche(folder: Path) -> None:
    """Do the job of a folder; this runs in Avalanche's environment."""
    begun, job = time.process_time(), json.loads((folder / "job.json").read_text(encoding="utf-8"))
    for seeded in (torch.manual_seed, random.seed, np.random.seed):
        seeded(job["seed"])
    start, batch = Path(job["start"]), job["batch"]
    held = torch.load(start / "images.pt", weights_only=True)
    net = dense_net(job["net"], start / "weights.pt", "cpu")
    (images, labels), side = held["train"], held["train"][0].shape[-1]
    seen = v2.Compose([v2.ToDtype(torch.float32, True), v2.Normalize(held["mean"], held["std"])])
    crop = v2.RandomCrop(side, padding=side // 8)
    data: Any = TensorDataset(images, labels)
    data.targets = labels.tolist()  # where Avalanche looks for them
    stream = import_module("avalanche.benchmarks").nc_benchmark(
        data,
        data,  # not used: both sides score all images
        n_experiences=2,
        task_labels=False,
        shuffle=False,
        fixed_class_order=list(range(len(held["classes"]))),
        per_exp_classes={0: held["num_old"]},
        train_transform=v2.Compose([crop, v2.RandomHorizontalFlip(), seen]),
    )
    steps = job["epochs"] * (len(labels) // batch)
    replay_(net, stream.train_stream, job, held, steps)
    scores = {split: score(net, seen, *held[split]) for split in ("val", "test")}
    old, new = scores["test"][: held["num_old"]], scores["test"][held["num_old"] :]
    trained = {
        "steps": steps,
        "val": fmean(scores["val"]),
        "parts": {"old": fmean(old), "new": fmean(new), "all": fmean([*old, *new])},
        "seconds": time.process_time() - begun,
    }
    made = folder / "trained.json.part"
    made.write_text(json.dumps(trained), encoding="utf-8")
    made.rename(folder / "trained.json")


def replay_(
    net: nn.Module, stream: Any, job: dict[str, Any], held: dict[str, Any], steps: int
) -> None:
    """Train on the second of two experiences, with what is left of the first as the buffer."""
    modules = "plugins", "storage_policy", "supervised"
    plugins, policy, strategies = (import_module(f"avalanche.training.{name}") for name in modules)
    (old, new), batch, num_old = stream, job["batch"], held["num_old"]
    share = 0.5 if job["split"] == "half" else num_old / len(held["classes"])
    batch_mem = round(share * batch)
    most = int(held["train"][1][held["is_memory"]].bincount().max())
    buffer = policy.ClassBalancedBuffer(most * num_old)
    used = [plugins.ReplayPlugin(buffer.max_size, None, batch_mem, storage_policy=buffer)]
    used += [plugins.LwFPlugin(job["lwf"], temperature=2)] * (job["lwf"] > 0)
    recipe = Recipe(lr=job["rate"], weight_decay=5e-4, batch=batch, smoothing=0.0)
    course = Course(recipe, steps)
    strategy = strategies.Naive(
        model=net,
        optimizer=recipe.optimizer(net),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=batch - batch_mem,
        train_epochs=steps,  # more than there will be
        plugins=[*used, course],
        evaluator=None,
    )
    net.train()  # as at the end of an experience; LwFPlugin's copy stays so
    strategy.experience = old
    for plugin in used:
        plugin.after_training_exp(strategy)
    num_memory = len(buffer.buffer)  # it is another one after the training
    strategy.train(new, drop_last=True)
    found, wanted = (num_memory, course.images), (int(held["is_memory"].sum()), steps * batch)
    if found != wanted:
        raise RuntimeError(f"{found} images in the memory and in all steps, not {wanted}")


@torch.no_grad()
def score(net: nn.Module, seen: v2.Transform, images: Tensor, labels: Tensor) -> list[float]:
    """Give the accuracy on each class's images."""
    net.eval()
    guesses = torch.cat([net(seen(part)).argmax(1) for part in images.split(1000)])
    return [float((guesses[labels == c] == c).double().mean()) for c in labels.unique()]


def read(folder: Path) -> dict[str, Any]:
    """Read what a network reached."""
    return json.loads((folder / "trained.json").read_text(encoding="utf-8"))


def regrow_results(run: Path, seeds: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """Read what `incremental.py` left of networks that were trained at all seeds."""
    found = {}
    for folder in [*run.glob("cifar10/scratch_*"), *run.glob("replay/warm_*")]:
        named = re.fullmatch(rf"(.+)_{seeds[0]}(_from_.+)?", folder.name)
        if named is None:
            continue
        folders = [folder.with_name(f"{named[1]}_{seed}{named[2] or ''}") for seed in seeds]
        if all((own / "scored_replay.json").is_file() for own in folders):
            scored = [json.loads((own / "scored_replay.json").read_text()) for own in folders]
            found[f"regrow, {named[1]}"] = [
                read(own) | one for own, one in zip(folders, scored, strict=True)
            ]
    return found


def table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Give means over seeds in percent, with intervals."""
    from regrow.metrics.differences import seed_interval
    from regrow.reporting.report import markdown_table

    rows = []
    for name, networks in results.items():
        row = [name, str(networks[0]["steps"])]
        for part in ("old", "new", "all"):
            scores = [100 * trained["parts"][part] for trained in networks]
            ends = seed_interval(scores)
            row.append(
                f"{fmean(scores):.2f}" + (f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else "")
            )
        rows.append(row)
    return markdown_table(["", "steps", "old %", "new %", "all %"], rows)


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
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Train, and print what came of it."""
    options = read_options()
    torch.set_num_threads(1)
    if options.job:
        train_with_avalanche(options.job)
        return
    sides, results = Sides(options), {}
    for lwf in LWF_WEIGHTS:
        tries = [Setting(rate, split, lwf) for split in SPLITS for rate in options.rates]
        chosen = max(tries, key=lambda setting: sides.train(setting, TUNING_SEED)["val"])
        results[f"Avalanche, {chosen}"] = [sides.train(chosen, seed) for seed in options.seeds]
    print(table(results | regrow_results(options.run, options.seeds)))


if __name__ == "__main__":
    main()
