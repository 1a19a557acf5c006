"""Warm starts beside training from scratch, on real images: scores, and steps that they take.

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
Prints a JSON line a trained network, and for each scenario a table of mean scores and one of
differences, with 95 % intervals over seeds.
"""

import argparse
import multiprocessing
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import fmean
from threading import Lock
from typing import Any

import torch
from scenarios import SCENARIOS
from warm_start_study import Network, Scores, Setting, Study, StudyTrial

from regrow.pipelines.experiments.standings import COLUMNS, Standing, differences_from, rows_of
from regrow.pipelines.experiments.trials import of_each, run, run_one
from regrow.reporting.report import markdown_table

PARTS = {"all": "all", "old": "old", "new": "new"}
CLOSE = 0.002  # to the best from scratch
TUNING_SEED = 100
SCRATCH, OLD = "from scratch", "the old network"


STUDIES: dict[str, Study] = {}  # of the command, for the processes that it forks


def train_network(study: str, network: Network, seed: int) -> StudyTrial:
    """Train a network of a study, in a process of its own."""
    torch.set_num_threads(STUDIES[study].options.threads)
    return run_one(STUDIES[study], network, seed)


def score_network(study: str, network: Network, trial: StudyTrial) -> Scores:
    """Score a network of a study, in a process of its own."""
    torch.set_num_threads(STUDIES[study].options.threads)
    return STUDIES[study].score(network, trial)


class Workshop:
    """Processes that train and score networks, each once.

    Args:
        processes: The processes.
    """

    def __init__(self, processes: ProcessPoolExecutor) -> None:
        self._processes = processes
        self._begun: dict[Hashable, Future[Any]] = {}
        self._lock = Lock()

    def begin(self, study: Study, network: Network, seed: int) -> Future[StudyTrial]:
        """Begin to train a network in one of the processes, unless it has begun."""
        key = study.folder(network, seed)
        return self._submit(key, train_network, study.name, network, seed)

    def train(
        self, study: Study, networks: Sequence[Network], seeds: Sequence[int]
    ) -> dict[str, list[Scores]]:
        """Return the scores of networks by name, one a seed."""
        trials = run(study, networks, seeds, partial(self.begin, study))
        found = {(name, trial.seed): trial for name, own in trials.items() for trial in own}

        def score(network: Network, seed: int) -> Future[Scores]:
            # Another scenario may have trained it, and scored it in its own way.
            key = (study.folder(network, seed), study.name)
            trial = found[network.name, seed]
            return self._submit(key, score_network, study.name, network, trial)

        waiting = of_each(score, networks, seeds, "scores")
        return {name: [future.result() for future in own] for name, own in waiting.items()}

    def best(self, study: Study, networks: Sequence[Network]) -> Network:
        """Return the network that scores best on validation images."""
        found = self.train(study, networks, [TUNING_SEED])
        return max(networks, key=lambda network: found[network.name][0].val)

    def _submit(self, key: Hashable, function: Callable[..., Any], *args: Any) -> Future[Any]:
        with self._lock:
            if key not in self._begun:
                self._begun[key] = self._processes.submit(function, *args)
            return self._begun[key]


def conduct(study: Study, workshop: Workshop) -> str:
    """Train all networks of a scenario, and return its tables."""
    options = study.options
    tries = [Network("scratch", Setting(rate, min(options.epochs))) for rate in study.rates]
    rate = workshop.best(study, tries).setting.rate
    old = Network("parent", Setting(rate, max(options.epochs)))
    settings = [Network("scratch", Setting(rate, epochs)) for epochs in options.epochs]
    workshop.begin(study, old, TUNING_SEED)  # beside all others
    found = workshop.train(study, [old, *settings], options.seeds)
    workshop.train(study, [old], [TUNING_SEED])
    begun = old
    if study.scenario.is_sparse:
        begun = Network("pruned", old.setting)
        workshop.begin(study, begun, TUNING_SEED)
        found |= workshop.train(study, [begun], options.seeds)
        workshop.train(study, [begun], [TUNING_SEED])
    scratch, lines = shortest(settings, found)
    epochs = study.warm_epochs(found[scratch.name][0].steps, old, TUNING_SEED)
    chosen, told = tune(study, workshop, old, epochs)
    reached = workshop.train(study, chosen, options.seeds)
    rows = {SCRATCH: found[scratch.name], OLD: found[begun.name]}
    rows |= {str(one.setting): reached[one.name] for one in chosen}
    base = str(chosen[0].setting) if study.scenario.is_sparse else SCRATCH
    return "\n".join([study.name, *lines, *told, *tables(rows, base)])


def shortest(
    networks: Sequence[Network], found: Mapping[str, Sequence[Scores]]
) -> tuple[Network, list[str]]:
    """Return the network with the fewest epochs that comes close to the best, and lines on all."""
    means = {one: fmean(own.parts["all"] for own in found[one.name]) for one in networks}
    lines = [
        f"{SCRATCH}, {one.setting}: {found[one.name][0].steps} steps, {100 * value:.2f} %"
        for one, value in means.items()
    ]
    near = [one for one, value in means.items() if value >= max(means.values()) - CLOSE]
    return min(near, key=lambda one: one.setting.epochs), lines


def tune(
    study: Study, workshop: Workshop, old: Network, epochs: int
) -> tuple[list[Network], list[str]]:
    """Return the warm starts to train at all seeds, and a line on the choice.

    The first beginning is tuned, and the others try its rate; in `sparse` each is tuned by itself.
    """
    first, *others = study.scenario.beginnings

    def warm(rate: float, beginning: str) -> Network:
        return Network("warm", Setting(rate, epochs, beginning), old.setting)

    def tuned(beginning: str) -> Network:
        return workshop.best(study, [warm(rate, beginning) for rate in study.warm_rates])

    if study.scenario.is_sparse:
        return [tuned(beginning) for beginning in (first, *others)], []
    best = tuned(first)
    at_best = [warm(best.setting.rate, other) for other in others]
    overall = workshop.best(study, [best, *at_best])
    kept = [best, overall, *(at_best if study.options.all else [])]
    return list(dict.fromkeys(kept)), [f"chosen by tuning: {overall.setting}"]


def tables(rows: Mapping[str, Sequence[Scores]], base: str) -> list[str]:
    """Return the table of mean scores over seeds, and that of differences from one of the rows."""
    standings = [
        Standing(label, {part: [one.parts[part] for one in own] for part in own[0].parts}, {})
        for label, own in rows.items()
    ]
    names = [name for name in PARTS if name in rows[base][0].parts]
    whole, lines = rows[SCRATCH][0].steps, []
    for one in standings:
        steps = rows[one.name][0].steps
        means = [f"{100 * one.mean(n):.2f}" if n in one.figures else "" for n in names]
        lines.append([one.name, f"{steps} ({100 * steps / whole:.0f} %)", *means])
    columns = ["", "steps", *(f"{name} %" for name in names)]
    (first,) = [one for one in standings if one.name == base]
    found = differences_from(first, [one for one in standings if one is not first])
    return [
        "",
        markdown_table(columns, lines),
        f"\nDifferences from `{base}`, with 95 % intervals over seeds:\n",
        markdown_table(COLUMNS, rows_of(found, PARTS)),
    ]


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
