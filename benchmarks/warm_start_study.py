"""The networks of a scenario of `incremental.py`, each trained once and scored on its parts."""

import argparse
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from scenarios import SCENARIOS, CropAndFlip

from regrow.cli import parse
from regrow.data.module import GrowingData
from regrow.data.staged import Staged
from regrow.files import read_json, write_json
from regrow.incremental.memory import MEMORY, memory_size
from regrow.metrics.differences import part_of
from regrow.models.checkpoint import load, save
from regrow.models.masks import mask_weights_
from regrow.models.optimization import Optimization
from regrow.pipelines.experiments.trials import Setup, Trial
from regrow.pipelines.train import run_training
from regrow.prune.criteria import Magnitude
from regrow.prune.weights import choose_masks, find_weights, score_weights
from regrow.training.evaluation import evaluate
from regrow.training.fit import Fit
from regrow.training.trainer import fine_tune_

CONFIGS = Path(__file__).parents[1] / "configs"
SHARES = (0.8, 0.9, 0.95)  # of the weights that are masked, one after the other
# From scratch, the old network, the old network masked, or warm-started.
Role = Literal["scratch", "parent", "pruned", "warm"]


@dataclass(frozen=True)
class Setting:
    """The settings that a network is trained with.

    Args:
        rate: The peak learning rate.
        epochs: Passes over the training images.
        beginning: A name among the beginnings of its scenario; empty from scratch.
    """

    rate: float
    epochs: int
    beginning: str = ""

    @property
    def key(self) -> str:
        """Return the part of a folder's name that stands for it."""
        return f"{self.beginning}_{self.rate:g}_{self.epochs}".strip("_").replace(" ", "-")

    def __str__(self) -> str:
        beginning = f", {self.beginning}" if self.beginning else ""
        return f"lr {self.rate:g}, {self.epochs} epochs{beginning}"


@dataclass(frozen=True)
class Network:
    """A candidate: one network of a scenario.

    Args:
        role: From scratch, the old network, the old network masked, or warm-started from either.
        setting: How it is trained.
        parent: How the old network was, of one that is warm-started.
    """

    role: Role
    setting: Setting
    parent: Setting | None = None

    @property
    def name(self) -> str:
        """Return its name, which differs for networks that differ."""
        return self.folder("")

    def folder(self, seed: int | str) -> str:
        """Return the name of its folder at a seed."""
        begun = f"_from_{self.parent.key}" if self.parent is not None else ""
        return f"{self.role}_{self.setting.key}_{seed}{begun}"


@dataclass(frozen=True)
class StudyTrial(Trial):
    """A trial with its cost.

    Args:
        candidate: The network's name.
        seed: The seed.
        steps: The optimizer's steps.
        seconds: Processor time.
    """

    steps: int
    seconds: float


@dataclass(frozen=True)
class Scores:
    """The scores of a network in a scenario.

    Args:
        steps: The optimizer's steps that it took.
        val: Its mean score over classes, on validation images.
        parts: Its mean scores over `all`, `old` and `new` classes, on test images.
    """

    steps: int
    val: float
    parts: dict[str, float]


class Study(Setup[Network, StudyTrial]):
    """A scenario: its data, and the terms on which its networks are trained.

    Args:
        name: The scenario's.
        options: The command's options.
    """

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name, self.scenario, self.options = name, SCENARIOS[name], options
        values, plain = self._parsed()
        self._make, self._fit = values["task"], values["fit"]
        self._optimization = Optimization(**plain["task"]["init_args"]["optimization"])
        if self.scenario.subject == "cifar10":
            self._optimization = replace(self._optimization, weight_decay=5e-4)
        self.before, self.after = self._read("before"), self._read("after")
        self.old = list(self.before.classes)
        self.new = [name for name in self.after.classes if name not in self.old]
        self.warm_rates = options.warm_rates or self.scenario.warm_rates or self.rates

    @property
    def rates(self) -> Sequence[float]:
        """Return the learning rates that training from scratch tries."""
        return self.options.rates or self.scenario.rates

    @cached_property
    def at_hand(self) -> GrowingData:
        """Return the training data of warm starts, besides the memory of the old network."""
        return self.after.later_than(self.before) if self.scenario.is_memory else self.after

    def warm_epochs(self, steps: int, parent: Network, seed: int) -> int:
        """Return the epochs of a warm start that has its share of the steps from scratch."""
        count = len(self.at_hand.examples("train"))
        if self.scenario.is_memory:
            count += memory_size(self.folder(parent, seed) / "run" / MEMORY)
        share = self.options.share or self.scenario.share
        return max(1, int(share * steps / max(1, count // self.after.batch_size)))

    def folder(self, network: Network, seed: int) -> Path:
        """Return the folder of a network; scenarios share those from scratch, and old ones."""
        scenario = self.scenario
        room = {"scratch": scenario.subject, "warm": self.name}.get(
            network.role, scenario.family or self.name
        )
        return self.options.run / room / network.folder(seed)

    def file(self, candidate: Network, seed: int) -> Path:
        """Return the path of a trial's JSON."""
        return self.folder(candidate, seed) / "trained.json"

    def checkpoint(self, candidate: Network, seed: int) -> Path:
        """Return the path of a trial's network."""
        return self.folder(candidate, seed) / "run" / "best.ckpt"

    def read(self, values: Mapping[str, Any]) -> StudyTrial:
        """Return the trial that the values of a JSON stand for."""
        return StudyTrial(**values)

    def train(self, candidate: Network, seed: int) -> StudyTrial:
        """Train a network, and write its checkpoint."""
        begun, folder = time.process_time(), self.folder(candidate, seed)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "said.txt").open("w") as said, redirect_stdout(said):
            make = self._prune if candidate.role == "pruned" else self._train
            steps = make(candidate, seed)
        return StudyTrial(candidate.name, seed, steps, time.process_time() - begun)

    def score(self, candidate: Network, trial: StudyTrial) -> Scores:
        """Score a network that is trained, or read its scores."""
        file = self.folder(candidate, trial.seed) / f"scored_{self.name}.json"
        if not file.is_file():
            val, parts = self._score(self.checkpoint(candidate, trial.seed))
            write_json(file, {"val": val, "parts": parts})
            print(json.dumps({"run": str(file.parent), "val": val, "test": parts}), flush=True)
        return Scores(trial.steps, **read_json(file))

    def _train(self, network: Network, seed: int) -> int:
        """Train as `scripts/train.py` does; return the number of steps."""
        start: dict[str, Any] = {}
        data = {"scratch": self.after, "parent": self.before, "warm": self.at_hand}[network.role]
        data = data.copy()
        data.seed = seed
        if network.role == "parent":
            start = {"replay": self.options.memory}
        elif network.parent is not None:
            beginning = self.scenario.beginnings[network.setting.beginning]
            old = Network("pruned" if self.scenario.is_sparse else "parent", network.parent)
            start = {
                "warm_start": self.checkpoint(old, seed),
                "growth": beginning.growth,
                "sparsity": beginning.sparsity,
            }
        run_training(
            partial(self._make, optimization=self._optimized(network.setting.rate)),
            data,
            fit=self._fitting(network.setting.epochs),
            run=self.folder(network, seed) / "run",
            seed=seed,
            **start,
        )
        return network.setting.epochs * (len(data.examples("train")) // data.batch_size)

    def _prune(self, network: Network, seed: int) -> int:
        """Mask the smallest weights of an old network step by step, and train between."""
        folder, setting = self.folder(network, seed) / "run", network.setting
        task, data = load(self.checkpoint(Network("parent", setting), seed)), self.before.copy()
        task.optimization, data.seed = self._optimized(0.5 * setting.rate), seed
        data.order_classes(task.classes)
        epochs = max(1, setting.epochs // 8)
        fit = self._fitting(epochs)
        task.to(fit.device)
        for number, share in enumerate(SHARES):
            names, _ = find_weights(task)
            scores = score_weights(task, names, Magnitude())
            mask_weights_(task.net, choose_masks(task.net, scores, share))
            fine_tune_(task, data, fit, folder, seed=seed, round_=number + 1)
        folder.mkdir(parents=True, exist_ok=True)
        save(folder / "best.ckpt", task)
        return epochs * len(SHARES) * (len(data.examples("train")) // data.batch_size)

    def _optimized(self, rate: float) -> Optimization:
        return replace(self._optimization, lr=rate)

    def _fitting(self, epochs: int) -> Fit:
        options = self.options
        return replace(
            self._fit,
            epochs=epochs,
            devices=1,
            accelerator=options.device,
            precision=options.precision,
            images=0,
        )

    def _score(self, checkpoint: Path) -> tuple[float, dict[str, float]]:
        """Return the mean score over classes on validation images, and those of test images."""
        task = load(checkpoint).to(self._fitting(1).device)
        is_grown = set(self.new) <= set(task.classes)
        data = (self.after if is_grown else self.before).copy()
        data.order_classes(task.classes)
        val = mean(evaluate(task, data.val_dataloader()).per_class.values())
        test = evaluate(task, data.test_dataloader())
        if "late_names" not in self.scenario.late:
            parts = {"old": self.old}
            if is_grown:
                parts |= {"all": task.classes, "new": self.new}
            per_class = test.per_class
            return val, {n: mean(per_class[c] for c in own) for n, own in parts.items() if own}
        known = {self.before.snapshot.hashes[i] for i in self.before.snapshot.indices("test")}
        snapshot = data.snapshot
        is_old = [snapshot.hashes[i] in known for i in snapshot.indices("test")]
        flags = {"all": [True] * len(is_old), "old": is_old, "new": [not old for old in is_old]}
        scores = {n: part_of(test.evidence, own).score() for n, own in flags.items()}
        return val, scores

    def _parsed(self) -> tuple[dict[str, Any], dict[str, Any]]:
        subject, options = self.scenario.subject, self.options
        words = [f"--config={CONFIGS / subject}.yaml"]
        words += [f"--data.root={options.data / subject}"] if options.data else []
        words += [f"--task.weights={options.weights}"] if options.weights else []
        return parse(run_training, words, description="", skip=["settings", "command_line"])

    def _read(self, stage: Literal["before", "after"]) -> GrowingData:
        data, options = self._parsed()[0]["data"], self.options
        data.source = Staged(data.source, stage, max_images=options.images, **self.scenario.late)
        if self.scenario.subject == "cifar10":
            data.size, data.augment = (options.side, options.side), [CropAndFlip(options.side // 8)]
            data.val_share = options.val_share
        data.batch_size = options.batch_size or data.batch_size
        data.snapshot  # noqa: B018 - reads the images
        return data


def mean(values: Iterable[float]) -> float:
    """Return the mean of what is a number; classes without images have no score."""
    return fmean(value for value in values if not math.isnan(value))
