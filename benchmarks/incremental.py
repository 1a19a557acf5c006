"""What warm starts reach, and for how many steps, beside training from scratch, on CIFAR-10.

    python benchmarks/incremental.py --data FOLDER_WITH_cifar-10-batches-py --scenario doubled

- `doubled`: the old network knows half of the images, of all classes; both halves are at hand.
- `classes`: it knows all images of eight classes, and two classes come; all images are at hand.
- `replay`: the same, but only `--memory` of the old images was kept, chosen by `train.py --replay`.

Both sides try six settings at a seed of its own, and validation images of all classes choose: from
scratch three rates with the fewest of `--epochs`, and three numbers of epochs; warm starts three
rates, and three other beginnings at the best one. From scratch trains at every seed with every
number of epochs; its steps are the fewest that come within 0.2 points of its best mean on test
images. A warm start has `--share` of those, and an old network that trained as many epochs as from
scratch. All networks are scored on all test images. `--side 32 --images 50000` is the whole of
CIFAR-10.

What is done lies in `--run` and is not done again. Prints a JSON line a trained network, and a
table of differences from scratch, with 95 % intervals over seeds.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from torchvision.transforms import v2

from regrow.data.files import write_atomic
from regrow.data.formats import Torchvision
from regrow.data.module import GrowingData
from regrow.data.staged import Staged
from regrow.incremental.growth import Growth
from regrow.incremental.memory import MEMORY, memory_size
from regrow.models.checkpoint import load
from regrow.models.classification import Classification
from regrow.models.differences import seed_interval
from regrow.models.distillation import Imitation
from regrow.models.evaluation import evaluate
from regrow.models.optimization import Optimization
from regrow.models.report import ranged, signed
from regrow.models.training import Fit
from regrow.scripts.train import run_training

Scenario = Literal["doubled", "classes", "replay"]
STAGES: dict[Scenario, dict[str, Any]] = {
    "doubled": {"late_share": 0.5},
    "classes": {"late_classes": ["ship", "truck"]},
    "replay": {"late_classes": ["ship", "truck"]},
}
RATES = (0.05, 0.1, 0.2)
# What a warm start may begin with besides the defaults, at the rate that is best with these.
BEGINNINGS: dict[Scenario, dict[str, Growth]] = {
    "doubled": {
        "shrink-perturb": Growth(warm_init="shrink-perturb"),
        "dash": Growth(warm_init="dash"),
        "half shrunk": Growth(warm_init="shrink-perturb", shrink=0.7, perturb=0.05),
    },
    "classes": {
        "mean": Growth(new_rows="mean"),
        "imprint": Growth(new_rows="imprint"),
        "half shrunk": Growth(warm_init="shrink-perturb", shrink=0.7, perturb=0.05),
    },
    "replay": {
        "distilled": Growth(distillation=Imitation()),
        "distilled more": Growth(distillation=Imitation(weight=4.0)),
        "imprint": Growth(new_rows="imprint"),
    },
}
CLOSE = 0.002  # to the best from scratch
TUNING_SEED = 100


@dataclass(frozen=True)
class Setting:
    """What a network is trained with.

    Args:
        rate: The peak learning rate.
        epochs: Passes over the training images.
        beginning: A name of `BEGINNINGS`, or `default`.
    """

    rate: float
    epochs: int
    beginning: str = "default"

    @property
    def key(self) -> str:
        """Name a folder."""
        return f"{self.beginning}_{self.rate:g}_{self.epochs}".replace(" ", "-")

    def __str__(self) -> str:
        beginning = "" if self.beginning == "default" else f", {self.beginning}"
        return f"lr {self.rate:g}, {self.epochs} epochs{beginning}"


@dataclass(frozen=True)
class Trained:
    """What a network reached: validation score, and the test score of every class."""

    steps: int
    val: float
    classes: dict[str, float]
    seconds: float

    def over(self, names: Sequence[str]) -> float:
        """Give the mean test score over classes."""
        return fmean(self.classes[name] for name in names)


class Study:
    """The networks of a scenario, each trained once.

    Args:
        options: The command's options.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.run: Path = options.run / options.scenario
        self.before, self.after = (
            read_data(options, STAGES[options.scenario], stage) for stage in ("before", "after")
        )
        self.old = list(self.before.classes)
        self.new = [name for name in self.after.classes if name not in self.old]

    def scratch(self, setting: Setting, seed: int) -> Trained:
        """Train on all images from fresh weights; scenarios share these."""
        return self._train(
            self.options.run / f"scratch_{setting.key}_{seed}", self.after, setting, seed
        )

    def parent(self, setting: Setting, seed: int) -> Path:
        """Train the old network on the old images, and let it keep a memory of them."""
        folder = self.run / f"parent_{setting.key}_{seed}"
        memory = self.options.memory if self.options.scenario == "replay" else None
        self._train(folder, self.before, setting, seed, replay=memory)
        return folder / "run" / "best.ckpt"

    def at_hand(self) -> GrowingData:
        """Give what warm starts train on, besides the memory of the old network."""
        if self.options.scenario == "replay":
            return self.after.later_than(self.before)
        return self.after

    def warm(self, setting: Setting, parent: Path, seed: int) -> Trained:
        """Train from an old network, on what is at hand."""
        growth = BEGINNINGS[self.options.scenario].get(setting.beginning, Growth())
        folder = self.run / f"warm_{setting.key}_{seed}"
        return self._train(folder, self.at_hand(), setting, seed, warm_start=parent, growth=growth)

    def _train(
        self, folder: Path, data: GrowingData, setting: Setting, seed: int, **start: Any
    ) -> Trained:
        file = folder / "trained.json"
        if file.is_file():
            return Trained(**json.loads(file.read_text(encoding="utf-8")))
        data, begun = data.copy(), time.process_time()
        data.seed = seed
        optimization = Optimization("sgd", lr=setting.rate, weight_decay=5e-4)

        def make(classes: list[str], size: tuple[int, int], **net: Any) -> Classification:
            return Classification(
                classes,
                size,
                optimization=optimization,
                channels_last=True,
                **{"net": self.options.net, **net},
            )

        fit = Fit(epochs=setting.epochs, devices=1, accelerator=self.options.device, images=0)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "said.txt").open("w") as said, redirect_stdout(said):
            run_training(make, data, fit=fit, run=folder / "run", seed=seed, **start)
        seconds = time.process_time() - begun
        task = load(folder / "run" / "best.ckpt").to(fit.device)
        scored = (self.after if set(self.new) <= set(task.classes) else self.before).copy()
        scored.order_classes(task.classes)
        val = fmean(evaluate(task, scored.val_dataloader()).per_class.values())
        classes = evaluate(task, scored.test_dataloader()).per_class
        steps = setting.epochs * (len(data.examples("train")) // data.batch_size)
        trained = Trained(steps, val, classes, seconds)
        text = json.dumps(asdict(trained))
        write_atomic(file, lambda out: out.write(text.encode()))
        print(json.dumps({"run": str(folder)} | asdict(trained)), flush=True)
        return trained


def read_data(options: argparse.Namespace, stages: Mapping[str, Any], stage: Any) -> GrowingData:
    """Give one stage of CIFAR-10, shrunk and augmented."""
    side = options.side
    crop = v2.RandomCrop(side, padding=side // 8)
    data = GrowingData(
        Staged(
            Torchvision("torchvision.datasets.CIFAR10"), stage, max_images=options.images, **stages
        ),
        options.data,
        size=(side, side),
        batch_size=options.batch_size,
        augment=[crop, v2.RandomHorizontalFlip()],
        val_share=options.val_share,
    )
    data.snapshot  # noqa: B018 - reads the images
    return data


def tuned(settings: Sequence[Setting], train: Callable[[Setting], Trained]) -> Setting:
    """Give the setting whose network scores best on validation images."""
    return max(settings, key=lambda setting: train(setting).val)


def scratch_figures(study: Study) -> tuple[Setting, list[Trained]]:
    """Train from scratch with every number of epochs, and give the one that counts."""
    options = study.options
    fewest = min(options.epochs)
    tries = [Setting(rate, fewest) for rate in options.rates]
    rate = tries[0].rate
    if len(tries) > 1:
        rate = tuned(tries, lambda setting: study.scratch(setting, TUNING_SEED)).rate
    found = {}
    for epochs in options.epochs:
        setting = Setting(rate, epochs)
        found[setting] = [study.scratch(setting, seed) for seed in options.seeds]
    means = {s: fmean(t.over(study.after.classes) for t in own) for s, own in found.items()}
    for setting, mean in means.items():
        print(f"from scratch, {setting}: {found[setting][0].steps} steps, {100 * mean:.2f} %")
    best = max(means.values())
    chosen = min((s for s in means if means[s] >= best - CLOSE), key=lambda s: s.epochs)
    return chosen, found[chosen]


def warm_figures(study: Study, scratch: Setting, steps: int) -> dict[str, list[Trained]]:
    """Train warm starts with the settings that tuning chose, and with the defaults."""
    options = study.options
    parent = study.parent(scratch, TUNING_SEED)
    count = len(study.at_hand().examples("train"))
    if options.scenario == "replay":
        count += memory_size(parent.parent / MEMORY)
    epochs = max(1, int(options.share * steps / (count // options.batch_size)))

    def train(setting: Setting) -> Trained:
        return study.warm(setting, parent, TUNING_SEED)

    tries = [Setting(rate, epochs) for rate in options.warm_rates]
    default = tuned(tries, train)
    others = [replace(default, beginning=name) for name in BEGINNINGS[options.scenario]]
    chosen = tuned([default, *others], train)
    found = {}
    for setting in dict.fromkeys([default, chosen, *(others if options.all else [])]):
        found[str(setting)] = [
            study.warm(setting, study.parent(scratch, seed), seed) for seed in options.seeds
        ]
    print(f"chosen by tuning: {chosen}")
    return found


def table(study: Study, scratch: list[Trained], warm: Mapping[str, list[Trained]]) -> str:
    """Give means over seeds, and differences from scratch."""
    parts = {"all": study.after.classes, "old": study.old, "new": study.new}
    parts = {name: classes for name, classes in parts.items() if classes}
    rows = [
        ["", "steps", *(f"{name} %" for name in parts), *(f"{name} - scratch" for name in parts)]
    ]
    for name, own in {"from scratch": scratch, **warm}.items():
        means = [f"{100 * fmean(t.over(c) for t in own):.2f}" for c in parts.values()]
        gaps = []
        for classes in parts.values():
            pairs = zip(own, scratch, strict=True)
            one_by_one = [t.over(classes) - s.over(classes) for t, s in pairs]
            gaps.append(f"{signed(fmean(one_by_one))} {ranged(seed_interval(one_by_one))}")
        share = own[0].steps / scratch[0].steps
        rows.append([name, f"{own[0].steps} ({100 * share:.0f} %)", *means, *gaps])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scenario", choices=list(STAGES), required=True)
    parser.add_argument("--net", default="cifar_resnet20")
    parser.add_argument("--images", type=int, default=6000, help="of each of train and test")
    parser.add_argument("--val-share", type=float, default=1 / 6)
    parser.add_argument("--side", type=int, default=16, help="of the images, in pixels")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument("--share", type=float, default=0.4, help="of the steps from scratch")
    parser.add_argument("--memory", type=float, default=0.01, help="share of old images, or number")
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), help="from scratch")
    parser.add_argument("--warm-rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--all", action="store_true", help="all beginnings at all seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--run", type=Path, default=Path("runs/incremental"))
    return parser.parse_args()


def main() -> None:
    """Train, and print what came of it."""
    options = read_options()
    torch.set_num_threads(options.threads)
    study = Study(options)
    setting, scratch = scratch_figures(study)
    warm = warm_figures(study, setting, scratch[0].steps)
    print(table(study, scratch, warm))


if __name__ == "__main__":
    main()
