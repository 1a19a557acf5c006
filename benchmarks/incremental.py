"""What warm starts reach, and for how many steps, beside training from scratch, on real images.

    python benchmarks/incremental.py --data FOLDER --scenario doubled classes replay sparse
    python benchmarks/incremental.py --data FOLDER --scenario cells --weights BACKBONE
    python benchmarks/incremental.py --data FOLDER --scenario streets dusk --weights BACKBONE

FOLDER holds `cifar10`, `bccd` and `camvid`, as the configs of these names read them.

- `doubled` (CIFAR-10): the old network knows half of the images; both halves are at hand.
- `classes` (CIFAR-10): it knows all images of eight classes, and two classes come.
- `replay`: the same, but only `--memory` of the old images was kept, chosen by `train.py --replay`.
- `sparse`: as `classes`, and of the old network's weights 95 % are masked; `keep`, `regrow` and
  `dense` are tuned alike, and compared with `dense`.
- `cells` (BCCD): platelets were not labelled before; all images are at hand.
- `streets` (CamVid): cars were not labelled before; all images are at hand.
- `dusk` (CamVid): images at dusk come to those by day; "old" and "new" are these test images.

Both sides try six settings. The rates are tried at a seed of their own, and the mean score of
classes on validation images chooses: from scratch three of them with the fewest of `--epochs`; warm
starts three, and three other beginnings at the best of them; `sparse` three for each beginning.
From scratch trains at every seed with three numbers of epochs; its steps are the fewest that come
within 0.2 points of its best mean on test images. A warm start has a share of those. An old network
trained as many epochs as the longest run from scratch. All are scored on test images, by the mean
over classes; old networks on those of the classes that they know.

What is done lies in `--run` and is not done again; with `--jobs` several networks train at a time.
Prints a JSON line a trained network, and a table of differences, with 95 % intervals over seeds.
"""

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from threading import Lock
from typing import Any, Literal

import torch
from scenarios import SCENARIOS, CropAndFlip

from regrow.cli import parse
from regrow.data.module import GrowingData
from regrow.data.staged import Staged
from regrow.files import read_json, write_json
from regrow.incremental.memory import MEMORY, memory_size
from regrow.metrics.differences import part_of, seed_interval
from regrow.models.checkpoint import load, save
from regrow.models.masks import mask_weights_
from regrow.models.optimization import Optimization
from regrow.pipelines.train import run_training
from regrow.prune.criteria import Magnitude
from regrow.prune.weights import choose_masks, find_weights, score_weights
from regrow.reporting.report import markdown_table, ranged, signed
from regrow.training.evaluation import evaluate
from regrow.training.fit import Fit
from regrow.training.trainer import fine_tune_

CONFIGS = Path(__file__).parents[1] / "configs"
PART_NAMES = ("all", "old", "new")
CLOSE = 0.002  # to the best from scratch
TUNING_SEED = 100
SHARES = (0.8, 0.9, 0.95)  # of the weights that are masked, one after the other


@dataclass(frozen=True)
class Setting:
    """What a network is trained with.

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
        """Name a folder."""
        return f"{self.beginning}_{self.rate:g}_{self.epochs}".strip("_").replace(" ", "-")

    def __str__(self) -> str:
        beginning = f", {self.beginning}" if self.beginning else ""
        return f"lr {self.rate:g}, {self.epochs} epochs{beginning}"


@dataclass(frozen=True)
class Job:
    """One network to train: `parent` is the setting of the old one, where there is one."""

    scenario: str
    role: Literal["scratch", "parent", "pruned", "warm"]
    setting: Setting
    seed: int
    parent: Setting | None = None


@dataclass(frozen=True)
class Trained:
    """What a network reached.

    Args:
        steps: The optimizer's steps.
        val: Its mean score over classes, on validation images.
        parts: Its mean scores over `all`, `old` and `new` classes, on test images.
        seconds: Processor time.
    """

    steps: int
    val: float
    parts: dict[str, float]
    seconds: float


class Study:
    """The data and the networks of a scenario, each trained once.

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
        """Give the learning rates that training from scratch tries."""
        return self.options.rates or self.scenario.rates

    @cached_property
    def at_hand(self) -> GrowingData:
        """Give what warm starts train on, besides the memory of the old network."""
        return self.after.later_than(self.before) if self.scenario.is_memory else self.after

    def warm_epochs(self, steps: int, parent: Job) -> int:
        """Give the epochs of a warm start that has its share of the steps from scratch."""
        count = len(self.at_hand.examples("train"))
        if self.scenario.is_memory:
            count += memory_size(self.folder(parent) / "run" / MEMORY)
        share = self.options.share or self.scenario.share
        return max(1, int(share * steps / max(1, count // self.after.batch_size)))

    def folder(self, job: Job) -> Path:
        """Give the folder of a network; scenarios share those from scratch, and old ones."""
        scenario, key = self.scenario, f"{job.setting.key}_{job.seed}"
        room = {"scratch": scenario.subject, "warm": self.name}.get(
            job.role, scenario.family or self.name
        )
        if job.parent is not None:
            key += f"_from_{job.parent.key}"
        return self.options.run / room / f"{job.role}_{key}"

    def train(self, job: Job) -> Trained:
        """Train a network and score it, or read what it reached."""
        file = self.folder(job) / "trained.json"
        if not file.is_file():
            begun = time.process_time()
            file.parent.mkdir(parents=True, exist_ok=True)
            with (file.parent / "said.txt").open("w") as said, redirect_stdout(said):
                steps = self._prune(job) if job.role == "pruned" else self._train(job)
            write_json(file, {"steps": steps, "seconds": time.process_time() - begun})
        scored = file.parent / f"scored_{self.name}.json"
        if not scored.is_file():
            val, parts = self._score(file.parent / "run" / "best.ckpt")
            write_json(scored, {"val": val, "parts": parts})
            print(json.dumps({"run": str(file.parent), "val": val, "test": parts}), flush=True)
        return Trained(**read_json(file), **read_json(scored))

    def _train(self, job: Job) -> int:
        """Train as `scripts/train.py` does; give the number of steps."""
        start: dict[str, Any] = {}
        data = {"scratch": self.after, "parent": self.before, "warm": self.at_hand}[job.role].copy()
        data.seed = job.seed
        if job.role == "parent":
            start = {"replay": self.options.memory}
        elif job.role == "warm":
            beginning = self.scenario.beginnings[job.setting.beginning]
            role: Literal["pruned", "parent"] = "pruned" if self.scenario.is_sparse else "parent"
            parent = replace(job, role=role, setting=job.parent or job.setting, parent=None)
            start = {
                "warm_start": self.folder(parent) / "run" / "best.ckpt",
                "growth": beginning.growth,
                "sparsity": beginning.sparsity,
            }
        run_training(
            partial(self._make, optimization=self._optimized(job.setting.rate)),
            data,
            fit=self._fitting(job.setting.epochs),
            run=self.folder(job) / "run",
            seed=job.seed,
            **start,
        )
        return job.setting.epochs * (len(data.examples("train")) // data.batch_size)

    def _prune(self, job: Job) -> int:
        """Mask the smallest weights of an old network step by step, and train between."""
        folder = self.folder(job) / "run"
        old = self.folder(replace(job, role="parent")) / "run"
        task, data = load(old / "best.ckpt"), self.before.copy()
        task.optimization, data.seed = self._optimized(0.5 * job.setting.rate), job.seed
        data.order_classes(task.classes)
        epochs = max(1, job.setting.epochs // 8)
        fit = self._fitting(epochs)
        task.to(fit.device)
        for number, share in enumerate(SHARES):
            names, _ = find_weights(task)
            scores = score_weights(task, names, Magnitude())
            mask_weights_(task.net, choose_masks(task.net, scores, share))
            fine_tune_(task, data, fit, folder, seed=job.seed, round_=number + 1)
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
        """Give the mean score over classes on validation images, and those of test images."""
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
    """Give the mean of what is a number; classes without images have no score."""
    return fmean(value for value in values if not math.isnan(value))


STUDIES: dict[str, Study] = {}  # of the command, for the processes that it forks


def train_job(job: Job) -> Trained:
    """Train a network of a study, in a process of its own."""
    torch.set_num_threads(STUDIES[job.scenario].options.threads)
    return STUDIES[job.scenario].train(job)


class Workshop:
    """Processes that train networks, each once.

    Args:
        processes: What trains.
    """

    def __init__(self, processes: ProcessPoolExecutor) -> None:
        self._processes = processes
        self._begun: dict[Hashable, Future[Trained]] = {}
        self._lock = Lock()

    def train(self, jobs: Sequence[Job]) -> list[Trained]:
        """Give what networks reach, in their order."""
        begun = [self._begin(job, STUDIES[job.scenario].folder(job)) for job in jobs]
        for future in begun:
            future.result()
        # Another scenario may have trained it, and scored it in its own way.
        scored = [
            self._begin(job, (STUDIES[job.scenario].folder(job), job.scenario)) for job in jobs
        ]
        return [future.result() for future in scored]

    def best(self, jobs: Sequence[Job]) -> Job:
        """Give the one whose network scores best on validation images."""
        found = self.train(jobs)
        return max(zip(jobs, found, strict=True), key=lambda pair: pair[1].val)[0]

    def _begin(self, job: Job, key: Hashable) -> Future[Trained]:
        with self._lock:
            if key not in self._begun:
                self._begun[key] = self._processes.submit(train_job, job)
            return self._begun[key]


def conduct(study: Study, workshop: Workshop) -> str:
    """Train all networks of a scenario, and give its table."""
    options, scenario, name = study.options, study.scenario, study.name
    longest = max(options.epochs)
    tries = [Setting(rate, min(options.epochs)) for rate in study.rates]
    best = workshop.best([Job(name, "scratch", setting, TUNING_SEED) for setting in tries])
    parent = Setting(best.setting.rate, longest)
    settings = [Setting(parent.rate, epochs) for epochs in options.epochs]
    begun = [Job(name, "parent", parent, seed) for seed in (TUNING_SEED, *options.seeds)]
    jobs = {s: [Job(name, "scratch", s, seed) for seed in options.seeds] for s in settings}
    workshop.train([*begun, *(job for own in jobs.values() for job in own)])
    found = {setting: workshop.train(own) for setting, own in jobs.items()}
    if scenario.is_sparse:
        begun = [replace(job, role="pruned") for job in begun]
        workshop.train(begun)
    lines = [name]
    means = {s: fmean(one.parts["all"] for one in own) for s, own in found.items()}
    for setting, value in means.items():
        steps = found[setting][0].steps
        lines.append(f"from scratch, {setting}: {steps} steps, {100 * value:.2f} %")
    near = [s for s in settings if means[s] >= max(means.values()) - CLOSE]
    scratch = min(near, key=lambda s: s.epochs)
    epochs = study.warm_epochs(found[scratch][0].steps, replace(begun[0], role="parent"))

    def warm(rate: float, beginning: str, seed: int = TUNING_SEED) -> Job:
        return Job(name, "warm", Setting(rate, epochs, beginning), seed, parent)

    first, *others = scenario.beginnings
    tuned = others if scenario.is_sparse else []
    chosen = [
        workshop.best([warm(rate, beginning) for rate in study.warm_rates])
        for beginning in (first, *tuned)
    ]
    if not scenario.is_sparse:
        at_best = [warm(chosen[0].setting.rate, other) for other in others]
        overall = workshop.best([*chosen, *at_best])
        lines.append(f"chosen by tuning: {overall.setting}")
        chosen = list(dict.fromkeys([*chosen, overall, *(at_best if options.all else [])]))
    kept = [(job, [replace(job, seed=seed) for seed in options.seeds]) for job in chosen]
    workshop.train([job for _, own in kept for job in own])
    rows = {str(job.setting): workshop.train(own) for job, own in kept}
    rows = {"from scratch": found[scratch], "the old network": workshop.train(begun[1:]), **rows}
    base = str(chosen[0].setting) if scenario.is_sparse else "from scratch"
    return "\n".join([*lines, table(rows, base)])


def table(rows: Mapping[str, list[Trained]], base: str) -> str:
    """Give means over seeds, and differences from a row with 95 % intervals."""
    names = [name for name in PART_NAMES if name in rows[base][0].parts]
    lines = []
    for label, own in rows.items():
        share = own[0].steps / rows["from scratch"][0].steps
        means, differences = [], []
        for name in names:
            pairs = [(a.parts, b.parts) for a, b in zip(own, rows[base], strict=True)]
            gaps = [mine[name] - theirs[name] for mine, theirs in pairs if name in mine]
            means.append(f"{100 * fmean(mine[name] for mine, _ in pairs):.2f}" if gaps else "")
            is_told = gaps and label != base
            told = f"{signed(fmean(gaps))} {ranged(seed_interval(gaps))}" if is_told else ""
            differences.append(told)
        lines.append([label, f"{own[0].steps} ({100 * share:.0f} %)", *means, *differences])
    columns = ["", "steps", *(f"{n} %" for n in names), *(f"{n} - {base}" for n in names)]
    return markdown_table(columns, lines)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, help="the folder of the images; by default where the configs look")
    add("--scenario", nargs="+", choices=list(SCENARIOS), required=True)
    add("--weights", help="of the backbone of cells, streets and dusk")
    add("--images", type=int, help="of each of train and test; by default all")
    add("--val-share", type=float, default=0.1, help="of CIFAR-10's training images")
    add("--side", type=int, default=32, help="of CIFAR-10's images, in pixels")
    add("--batch-size", type=int, help="by default the config's")
    add("--epochs", type=int, nargs="+", default=[10, 20, 40], help="from scratch")
    add("--share", type=float, help="of the steps from scratch that warm starts have")
    add("--memory", type=float, default=0.01, help="share of old images, or number")
    add("--rates", type=float, nargs="+", help="learning rates that scratch tries")
    add("--warm-rates", type=float, nargs="+", help="those that warm starts try")
    add("--all", action="store_true", help="all beginnings at all seeds")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--device", default="auto")
    add("--precision", help="Lightning's name of it; by default that of regrow")
    add("--threads", type=int, default=1, help="of each process")
    add("--jobs", type=int, default=1, help="networks that train at a time")
    add("--run", type=Path, default=Path("runs/incremental"))
    return parser.parse_args()


def main() -> None:
    """Train, and print what came of it."""
    options = read_options()
    torch.set_num_threads(1)
    for name in options.scenario:
        STUDIES[name] = Study(name, options)
    # Forked, so that all see the images that are in memory; CUDA begins in each by itself.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(options.jobs, mp_context=fork) as processes:
        processes.submit(int).result()  # all fork now, before there are threads
        workshop = Workshop(processes)
        with ThreadPoolExecutor(len(STUDIES)) as studies:
            for text in studies.map(lambda study: conduct(study, workshop), STUDIES.values()):
                print(f"\n{text}", flush=True)


if __name__ == "__main__":
    main()
