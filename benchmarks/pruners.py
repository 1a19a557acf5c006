"""regrow's pruning beside torch-pruning's own pruner and NVIDIA ModelOpt's FastNAS, on CIFAR-10.

    python benchmarks/pruners.py --tool regrow --variant default --images 6000 --epochs 6 \
        --lr .01 .03 .1 --distillation 0 .5 --seeds 0 1 2 3 4 > regrow.jsonl
    python benchmarks/pruners.py --tool torch-pruning ... > torch-pruning.jsonl
    ENV/bin/python benchmarks/pruners.py --tool modelopt ... > modelopt.jsonl
    python benchmarks/pruners.py --tool dense ... > dense.jsonl
    python benchmarks/pruners.py --read regrow.jsonl torch-pruning.jsonl modelopt.jsonl dense.jsonl

Same starting weights, same images in the same order with the same augmentation, same optimizer and
schedule, same number of images trained on (`--epochs` is all that a tool may train), same counter
of MACs. What differs is when a tool trains, and what it removes:

- regrow: the engine behind scripts/prune.py, cut once; `--variant` says how (`VARIANTS`; `default`
  is what its options' defaults do). With `--steps` above 1, steps of equal size, recovery after
  each, and the rest of the epochs after the last (`num_steps`, `recovery.epochs`, `final_epochs`).
- torch-pruning: GroupNormPruner as in its reproduce/ folder: 400 small steps until the MACs are
  reached, batch norms measured anew, then fine-tuning; with `--sparse-epochs`, sparsity learning
  before. `--steps` above 1 fine-tunes in between. It takes channels of the stream through the
  padded shortcuts of these nets to be the same ones on either side, which they are not;
  `--whole-streams` keeps it off them.
- modelopt: `mtp.prune(mode="fastnas")` as in its ResNet-20 notebook, then fine-tuning. Its channels
  come in multiples of `--divisor`; the notebook's 16 cannot reach 2x. It ranks candidates by their
  accuracy on `--val-images`, and often removes more than it is asked to: ask for less then, so that
  the measured reductions compare. Its queue of batches is filled: it measures norms anew with it.
- dense: the unpruned network under the same training, which says how much of a figure is training.

Each seed runs in a process of its own, `--jobs` at once: as many as there are seeds on CUDA, whose
GPU a small net leaves idle. After the last cut copies of the network are trained by each recipe of
`--lr` and `--distillation` (share of the loss that is divergence from the unpruned network). Prints
one JSON line a seed and recipe, whose rows are read again by `--read`: means, and differences from
the first row by seed. There `swept` takes for each seed the recipe with the best `--val-images`.

ModelOpt's environment (0.47 does not say that it needs the last three):

    python -m venv ENV && ENV/bin/pip install nvidia-modelopt torch torchvision \
        requests huggingface_hub "torchprofile<0.1"
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import time
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar_recipe import (
    SIDE,
    Cifar,
    Recipe,
    Training,
    accuracy,
    count_macs,
    dense_net,
    normalised,
    reestimate_batchnorm_,
    unpacked,
)
from pruner_table import table
from torch import Tensor, nn

PACKAGES = {"torch-pruning": "torch-pruning", "modelopt": "nvidia-modelopt"}
# Of torch-pruning's reproduce/main.py.
SMALL_STEPS, REGULARIZATION = 400, 5e-4
# Batches that ModelOpt 0.47 waits for before it measures norms anew.
QUEUE = 50


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to prune with regrow: the options that differ from the defaults.

    Args:
        criterion: The class of the criterion.
        selection: Options of the selection.
        searches: Whether widths are searched for.
        compensates: Whether the layers that read what goes are fitted.
        trials: Number of candidates that are trained for a few steps.
    """

    criterion: str = "Taylor"
    selection: dict[str, Any] = field(default_factory=dict)
    searches: bool = True
    compensates: bool = False
    trials: int = 0


BY_MACS: dict[str, Any] = {"per": "macs"}
RAW: dict[str, Any] = BY_MACS | {"normalizer": "none"}
VARIANTS = {
    "default": Variant(),
    "default+compensation": Variant(compensates=True),
    "default+trials": Variant(trials=8),
    "consumers": Variant("ConsumerMagnitude"),
    "consumers-per-macs": Variant("ConsumerMagnitude", BY_MACS | {"max_share": 0.95}),
    "consumers+trials": Variant("ConsumerMagnitude", trials=8),
    "ranked": Variant(searches=False),
    "ranked+compensation": Variant(searches=False, compensates=True),
    "ranked-per-macs": Variant(selection=BY_MACS, searches=False),
    "ranked-raw-per-macs": Variant(selection=RAW, searches=False),
    "ranked-consumers": Variant("ConsumerMagnitude", BY_MACS, searches=False),
}


class Batches:
    """Training images as the engine reads them: uint8, the same at every pass."""

    def __init__(self, data: Cifar, seed: int, batch: int) -> None:
        self.data, self.seed, self.batch = data, seed, batch

    def __len__(self) -> int:
        return len(self.data.labels) // self.batch

    def __iter__(self) -> Any:
        return self.data.epoch(self.seed, 0, self.batch)


def split(images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return batches of images in their order."""
    return list(zip(images.split(500), labels.split(500), strict=True))


def by_regrow(options: argparse.Namespace, data: Cifar, training: Training) -> nn.Module:
    """Prune with the engine that `scripts/prune.py` runs."""
    from regrow.metrics.budget import Budget
    from regrow.models.classification import Classification
    from regrow.models.optimization import Optimization, state_by_name
    from regrow.models.task import Task
    from regrow.prune import criteria
    from regrow.prune.compensation.compensate import Compensation
    from regrow.prune.engine import prune
    from regrow.prune.removal import Channels
    from regrow.prune.search.settings import Search
    from regrow.prune.selection import Selection
    from regrow.prune.target import Target

    recipe, variant = training.recipe, VARIANTS[options.variant]
    task = Classification(
        [str(number) for number in range(10)],
        (SIDE, SIDE),
        net=options.net,
        weights=str(options.weights),
        label_smoothing=recipe.smoothing,
        optimization=Optimization("sgd", recipe.lr, recipe.weight_decay),
    ).to(options.device)

    def train(work: Task, index: int) -> None:
        optimizer = work.configure_optimizers()
        training(work.net, options.epochs_between, optimizer)
        work.momenta = state_by_name(optimizer, work.net)

    limits = {"minutes": options.minutes, "candidates": options.candidates}
    limits["trials"] = variant.trials
    removal = Channels(
        task,
        Target(macs=1 / options.speedup),
        Selection(scope=options.scope, round_to=options.round_to, **variant.selection),
        getattr(criteria, variant.criterion)(),
        compensation=Compensation() if variant.compensates else None,
        search=Search(**limits) if variant.searches else None,
    )
    result = prune(
        task,
        removal,
        train_loader=Batches(data, training.seed, recipe.batch),
        val_loader=split(*data.val),
        test_loader=split(*data.test),
        num_steps=options.steps,
        # The number of steps is that of all tools' epochs, so none may be added or rolled back.
        adapts=False,
        budget=Budget(max_drop=1.0),
        recover=train if options.epochs_between else None,
        seed=training.seed,
        on_step=lambda step: print(
            f"step {step.index}: {step.macs} MACs, {step.score:.4f}", file=sys.stderr
        ),
    )
    return result.task.net


def by_torch_pruning(options: argparse.Namespace, data: Cifar, training: Training) -> nn.Module:
    """Prune as torch-pruning's reproduce/main.py does with `group_norm` or `group_sl`."""
    import torch_pruning

    net = dense_net(options.net, options.weights, options.device)
    whole: list[nn.Module] = [net.get_submodule("linear")]
    if options.whole_streams:
        names = dict(net.named_modules())
        whole += [m for name, m in names.items() if name == "conv1" or name.endswith(".conv2")]
    normalizer = "max" if options.sparse_epochs else "mean"
    pruner = torch_pruning.pruner.GroupNormPruner(
        net,
        torch.zeros(1, 3, SIDE, SIDE, device=options.device),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2, normalizer=normalizer),
        reg=REGULARIZATION,
        global_pruning=options.scope == "global",
        pruning_ratio=1.0,
        iterative_steps=SMALL_STEPS,
        ignored_layers=whole,
    )
    if options.sparse_epochs:
        optimizer = replace(training.recipe, weight_decay=0.0).optimizer(net)
        training(net, options.sparse_epochs, optimizer, lambda: pruner.regularize(net))
    dense = count_macs(net)
    for number in range(1, options.steps + 1):
        share = 1 - (1 - 1 / options.speedup) * number / options.steps
        while count_macs(net) > dense * share and pruner.current_step < SMALL_STEPS:
            pruner.step()
        training(net, options.epochs_between)
    reestimate_batchnorm_(net, data, training.recipe.batch)
    return net


def by_modelopt(options: argparse.Namespace, data: Cifar, training: Training) -> nn.Module:
    """Prune as ModelOpt's notebook on ResNet-20 and CIFAR-10 does."""
    import modelopt.torch.prune as mtp

    net = dense_net(options.net, options.weights, options.device)
    config = mtp.fastnas.FastNASConfig()
    config["nn.Conv2d"]["*"]["channel_divisor"] = options.divisor
    config["nn.BatchNorm2d"]["*"]["feature_divisor"] = options.divisor
    batches = [*Batches(data, training.seed, training.recipe.batch)]
    batches *= -(-QUEUE // len(batches))
    with redirect_stdout(sys.stderr):
        net, _ = mtp.prune(
            model=net,
            mode=[("fastnas", config)],
            # A share, since it counts two operations where we count one.
            constraints={"flops": f"{100 / options.speedup:.4f}%"},
            dummy_input=torch.zeros(1, 3, SIDE, SIDE, device=options.device),
            config={
                "data_loader": [(normalised(images), labels) for images, labels in batches],
                "score_func": lambda candidate: accuracy(candidate, *data.val),
            },
        )
    return net


def unpruned(options: argparse.Namespace, data: Cifar, training: Training) -> nn.Module:
    """Return the network as it is."""
    return dense_net(options.net, options.weights, options.device)


TOOLS = {
    "regrow": by_regrow,
    "torch-pruning": by_torch_pruning,
    "modelopt": by_modelopt,
    "dense": unpruned,
}


def measure(options: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Prune with one seed, and train the network by each recipe; return the figures of each."""
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    data = Cifar(
        options.data, options.device, options.images, options.val_images, options.test_images
    )
    dense = dense_net(options.net, options.weights, options.device)
    before, macs = accuracy(dense, *data.test), count_macs(dense)
    recipe = Recipe(options.lr[0], options.weight_decay, options.batch, options.smoothing)
    training = Training(data, replace(recipe, distillation=options.distillation[0]), seed, dense)
    started = time.perf_counter()
    cut = TOOLS[options.tool](options, data, training)
    seconds, spent = time.perf_counter() - started, training.epochs
    untrained = accuracy(cut, *data.test)
    rows = []
    for lr, share in product(options.lr, options.distillation):
        net = deepcopy(cut)
        training = Training(data, replace(recipe, lr=lr, distillation=share), seed, dense)
        training.epochs = spent
        training(net, options.final_epochs)
        if training.epochs != options.epochs:
            told = f"{options.tool} trained {training.epochs} epochs, not {options.epochs}"
            raise SystemExit(told)
        left = count_macs(net)
        row = {
            "tool": options.tool + (f" {options.variant}" if options.tool == "regrow" else ""),
            "version": version(PACKAGES[options.tool]) if options.tool in PACKAGES else "",
            "net": options.net,
            "seed": seed,
            "lr": lr,
            "distillation": share,
            "asked": options.speedup,
            "reduction": round(macs / left, 4),
            "macs": [macs, left],
            "params": sum(p.numel() for p in net.parameters()),
            "before": round(before, 4),
            "untrained": round(untrained, 4),
            "val": round(accuracy(net, *data.val), 4),
            "test": round(accuracy(net, *data.test), 4),
            "passes": training.passes,
            "prune_seconds": round(seconds, 1),
            "train_seconds": round(training.seconds, 1),
            "settings": {
                k: str(v) for k, v in vars(options).items() if k not in ("weights", "data", "read")
            },
            "torch": torch.__version__,
        }
        rows.append(row)
        print(json.dumps(row), file=sys.stderr)
    return rows


def read_options() -> argparse.Namespace:
    """Read the command line, and fill in what depends on other options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tool", choices=list(TOOLS), default="regrow")
    parser.add_argument("--read", type=Path, nargs="+", help="files of rows, and no tool")
    parser.add_argument("--net", default="cifar_resnet20")
    root = Path(os.environ.get("REGROW_DATA", "."))
    parser.add_argument("--weights", type=Path, help="by default under REGROW_DATA")
    parser.add_argument("--data", type=Path, default=root / "cifar10")
    parser.add_argument("--speedup", type=float, default=2.11, help="MACs before / after")
    parser.add_argument("--epochs", type=int, default=10, help="all that a tool may train")
    parser.add_argument("--images", type=int, help="training images; by default all")
    parser.add_argument("--val-images", type=int, default=2000, help="held out of training")
    parser.add_argument("--test-images", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, help="seeds at once; by default 1, on CUDA all")
    recipe = parser.add_argument_group("recipe of all tools")
    recipe.add_argument("--batch", type=int, default=128)
    recipe.add_argument("--lr", type=float, nargs="+", default=[0.01], help="each in turn")
    recipe.add_argument("--distillation", type=float, nargs="+", default=[0.0], help="likewise")
    recipe.add_argument("--weight-decay", type=float, default=5e-4)
    recipe.add_argument("--smoothing", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=1, help="with training after each")
    parser.add_argument("--final-epochs", type=int, help="after the last step; about half, or all")
    parser.add_argument("--scope", choices=("global", "local"), default="global")
    parser.add_argument("--variant", choices=list(VARIANTS), default="default", help="regrow's")
    parser.add_argument("--minutes", type=float, help="of regrow's search")
    parser.add_argument("--candidates", type=int, default=80, help="of regrow's search")
    parser.add_argument("--round-to", type=int, default=4, help="regrow's")
    parser.add_argument("--sparse-epochs", type=int, default=0, help="torch-pruning's, of all")
    parser.add_argument("--whole-streams", action="store_true", help="torch-pruning's")
    parser.add_argument("--divisor", type=int, default=4, help="modelopt's")
    options = parser.parse_args()
    short = options.net.removeprefix("cifar_")
    options.weights = options.weights or root / "weights" / f"cifar10_{short}.pth"
    options.jobs = options.jobs or (len(options.seeds) if options.device == "cuda" else 1)
    rest = options.epochs - options.sparse_epochs
    if options.final_epochs is None:
        between = rest // (2 * options.steps) if options.steps > 1 else 0
        options.final_epochs = rest - options.steps * between
    options.epochs_between, uneven = divmod(rest - options.final_epochs, options.steps)
    if uneven or options.epochs_between < 0:
        parser.error("--epochs less --final-epochs and --sparse-epochs must be whole steps")
    if options.tool in ("modelopt", "dense") and options.epochs_between:
        parser.error(f"{options.tool} trains at the end; leave out --steps, --final-epochs")
    if options.epochs_between and len(options.lr) * len(options.distillation) > 1:
        parser.error("several recipes need --steps 1")
    if options.images is not None and options.images < options.batch:
        parser.error("--images is less than one --batch")
    return options


def main() -> None:
    """Run every seed in a process of its own, and print what came of each."""
    options = read_options()
    if options.read:
        lines = [line for file in options.read for line in file.read_text().splitlines()]
        print(table([json.loads(line) for line in lines if line.startswith("{")]))
        return
    options.data = unpacked(options.data)
    # A pruner may leave something behind in its process, and torch-pruning's does.
    context = multiprocessing.get_context("spawn")
    rows = []
    with context.Pool(options.jobs, maxtasksperchild=1) as pool:
        waiting = [pool.apply_async(measure, (options, seed)) for seed in options.seeds]
        for one in waiting:
            rows += one.get()
            for row in rows[-len(options.lr) * len(options.distillation) :]:
                print(json.dumps(row), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
