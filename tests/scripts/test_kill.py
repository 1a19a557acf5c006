"""A run that is killed goes on to the weights that it would have had, bit for bit.

Three tasks, with and without workers, dense, masked and pruned networks. The masks of masked ones
move while they train. Each run is a process of its own, which dies after a step.
"""

import atexit
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from children import Stop, trained

from regrow.data.sample import NAMES
from regrow.models.checkpoint import read, save
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.masks import mask_weights_
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import cut_
from regrow.training.stages import furthest

ROOT = Path(__file__).parents[2]
EPOCHS, BATCHES = 3, 4
TASKS: dict[str, Callable[[], Task]] = {
    "classification": lambda: Classification(NAMES, (32, 32), net="small"),
    "detection": lambda: Detection(NAMES, (64, 64), net="fcos"),
    "segmentation": lambda: Segmentation(["background", *NAMES], (64, 64), net="small"),
}
SPARSITY = {"dense": "keep", "masked": "regrow", "pruned": "keep"}
SCENES = [f"--data.source.num_{split}={4 * BATCHES}" for split in ("train", "val", "test")]
Stops = Sequence[Sequence[Stop]]
Case = tuple[str, int, str]
Equal = Callable[[Path, Path], None]

combinations = [
    pytest.param((task, workers, kind), id=f"{task}-{workers}-{kind}")
    for task in TASKS
    for workers in (0, 2)
    for kind in SPARSITY
]


def write_parent(name: str, kind: str, folder: Path) -> None:
    """Write a network to begin with: dense, with masks, or with half of its channels."""
    torch.manual_seed(0)
    task = TASKS[name]()
    if kind == "masked":
        weights = {n: p for n, p in task.net.named_parameters() if p.ndim == 4}
        mask_weights_(task.net, {n: torch.rand(p.shape) < 0.7 for n, p in weights.items()})
    elif kind == "pruned":
        groups = find_groups(task).groups
        cut_(task, [(group, list(range(group.num_units // 2))) for group in groups])
    save(folder / "parent.ckpt", task)


def line(name: str, workers: int, kind: str, folder: Path, run: str) -> list[str]:
    """Return the words of a run that goes on if there is something to go on with."""
    is_there = furthest(folder / run) is not None
    return [
        "--resume=auto" if is_there else f"--warm-start={folder / 'parent.ckpt'}",
        f"--config={ROOT / 'configs' / name}.yaml",
        f"--sparsity={SPARSITY[kind]}",
        "--data.batch_size=4",
        f"--data.max_images={4 * BATCHES}",
        *([] if name == "classification" else SCENES),
        f"--data.num_workers={workers}",
        f"--fit.epochs={EPOCHS}",
        "--fit.images=0",
        f"--run={folder / run}",
    ]


@cache
def trained_whole(name: str, kind: str) -> Path:
    """Train without a stop, once for any number of workers, which does not change the weights."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_parent(name, kind, folder)
    assert trained(line(name, 0, kind, folder, "whole")) == 0
    return folder / "whole"


def assert_same(one: Path, other: Path, assert_equal_weights: Equal) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        assert_equal_weights(one / name, other / name)
        masks = [read(run / name)["regrow"]["masks"] for run in (one, other)]
        assert masks[0].keys() == masks[1].keys()
        assert all(torch.equal(masks[0][key], masks[1][key]) for key in masks[0])


def check(folder: Path, combination: Case, stops: Stops, equal: Equal) -> None:
    """Train as often with stops between; what is there is gone on with, always."""
    name, workers, kind = combination
    whole = trained_whole(name, kind)
    shutil.copy(whole.parent / "parent.ckpt", folder)
    for number, own in enumerate(stops):
        run = f"stopped{number}"
        for how, step in own:
            code = {"kill": -signal.SIGKILL, "term": 143}[how]
            assert trained(line(*combination, folder, run), (how, step)) == code
        assert trained(line(*combination, folder, run)) == 0
        assert_same(whole, folder / run, equal)


@pytest.mark.parametrize("combination", combinations)
def test_a_killed_run_goes_on(
    tmp_path: Path, combination: Case, assert_equal_weights: Equal
) -> None:
    name, workers, kind = combination
    step = random.Random(f"{name}{workers}{kind}").randrange(BATCHES + 1, EPOCHS * BATCHES)
    check(tmp_path, combination, [[("kill", step)]], assert_equal_weights)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("combination", combinations)
def test_a_run_killed_twice_in_an_epoch_goes_on(
    tmp_path: Path, combination: Case, assert_equal_weights: Equal
) -> None:
    name, workers, kind = combination
    stops = []
    for number in range(20):
        draw = random.Random(f"{name}{workers}{kind}{number}")
        first = BATCHES * draw.randrange(EPOCHS)
        # The one in the middle leaves a checkpoint of the middle of the epoch.
        steps = [draw.randrange(first + 1, first + BATCHES) for _ in range(2)]
        later = draw.randrange(steps[1] + 1, first + BATCHES + 1)
        stops.append([("kill", steps[0]), ("term", steps[1]), ("kill", later)])
    check(tmp_path, combination, stops, assert_equal_weights)
