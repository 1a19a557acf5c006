"""Files of a run, mutated at random: one line or a valid load, in bounded memory and time."""

import contextlib
import copy
import json
import math
import random
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.files import is_there
from regrow.incremental.gating.promotion import promote, read_promoted
from regrow.incremental.history import History, Part
from regrow.incremental.parent import Parent
from regrow.incremental.warm_start import WarmStart
from regrow.models.checkpoint import load, load_provenance, save
from regrow.models.classification import Classification
from regrow.models.optimization import Optimization
from regrow.models.record.provenance import Provenance
from regrow.models.task import Task
from regrow.pipelines.lineage import follow
from regrow.prune.removal import Cut
from regrow.prune.schedule import Pace
from regrow.prune.state import Progress, Step, load_progress, save_progress
from regrow.training.fit import Fit
from regrow.training.trainer import make_trainer, train

NUM = 500  # mutations of each file
MEMORY, SECONDS = 2**20, 60  # kilobytes that all may take more than before; for each
FIT = Fit(epochs=2, images=0, accelerator="cpu", devices=1)
ODD: list[Callable[[], Any]] = [
    lambda: None, lambda: True, lambda: -1, lambda: 0, lambda: 2**62, lambda: 10**30,
    lambda: math.nan, lambda: math.inf, lambda: -1e300, lambda: "",
    lambda: "..", lambda: "/etc/passwd", lambda: "\x1b[31m\0x", lambda: "x" * 10_000,
    lambda: "\ud800", lambda: b"bytes", list, dict, lambda: [1], lambda: {"a": 1},
    lambda: {3: None}, lambda: [[[]]], lambda: torch.zeros(2), lambda: torch.zeros(()),
    lambda: torch.full((3, 3), math.nan), lambda: torch.zeros(1).expand(10**9),
    lambda: torch.zeros(0), lambda: torch.zeros(1, dtype=torch.int64), lambda: torch.tensor(1j),
]  # fmt: skip
PLAIN = [make for make in ODD if isinstance(make(), str | int | float | list | dict | None)]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container with each of its keys."""
    if isinstance(value, dict):
        for key in list(value):
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for index in range(len(value)):
            yield value, index
            yield from _places(value[index])


def mutate(values: Any, rng: random.Random, odd: list[Callable[[], Any]]) -> Any:
    """Replace, drop, rename or repeat some values; shallow ones as often as deep ones."""
    values = copy.deepcopy(values)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        places = list(_places(values))
        if not places:
            break
        # By the name first, so that the weights, which are many, do not take all mutations.
        by_name: dict[str, list[tuple[Any, Any]]] = {}
        for place in places:
            by_name.setdefault(str(place[1]).rpartition(".")[2], []).append(place)
        owner, key = rng.choice(by_name[rng.choice(sorted(by_name))])
        kind = rng.choice(["replace", "replace", "replace", "drop", "rename", "add"])
        if kind == "drop" or (kind == "rename" and isinstance(owner, list)):
            owner.pop(key)
        elif kind == "rename":
            owner[rng.choice(["other", "..", 5])] = owner.pop(key)
        elif kind == "add" and isinstance(owner, dict):
            owner[rng.choice(["increment_ready", "weights", "__class__"])] = rng.choice(odd)()
        else:
            old, made = owner[key], rng.choice(odd)()
            if isinstance(old, Tensor) and rng.random() < 0.5:
                made = rng.choice([old[None], old.double(), old.flatten()[:1], old.half()])
            owner[key] = made
    return values


def damage(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat or overwrite some bytes."""
    kind, place = rng.randrange(4), rng.randrange(len(content))
    if kind == 0:
        return content[:place]
    changed = bytearray(content)
    for _ in range(rng.choice([1, 4, 64])):
        place = rng.randrange(len(changed))
        if kind == 1:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            changed[place : place + rng.randrange(9)] = rng.randbytes(rng.randrange(9))
        else:
            end = min(place + 40, len(changed))
            changed[place:end] = b"\xff" * (end - place)
    return bytes(changed)


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def fuzz(
    file: Path,
    use: Callable[[], Any],
    *,
    is_json: bool = False,
    reset: Callable[[], None] = lambda: None,
) -> int:
    """Mutate a file again and again, and count how often it is still of use.

    Args:
        file: The file, whole.
        use: Reads it; may raise BadInput alone.
        is_json: Whether it is JSON, else what torch writes.
        reset: What is done before each mutation.
    """
    content = file.read_bytes()
    values = json.loads(content) if is_json else torch.load(file, weights_only=True)
    before, num_used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    for seed in range(NUM):
        rng = random.Random(seed)
        reset()
        if seed % 3 == 0:
            file.write_bytes(damage(content, rng))
        elif is_json:
            file.write_text(json.dumps(mutate(values, rng, PLAIN), default=str), "utf-8")
        else:
            torch.save(mutate(values, rng, ODD), file)
        began = time.monotonic()
        try:
            use()
            num_used += 1
        except BadInput:
            pass
        except Exception as error:
            raise AssertionError(f"mutation {seed}: {type(error).__name__}: {error}") from error
        assert time.monotonic() - began < SECONDS, f"mutation {seed} hangs"
    file.write_bytes(content)
    use()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY
    return num_used


def _task() -> Task:
    torch.manual_seed(0)
    optimization = Optimization("adamw", lr=0.01)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 2}, optimization=optimization)
    task.provenance = Provenance(
        data="d" * 32,
        manifest={
            "hashes": torch.arange(32, dtype=torch.uint8).view(2, 16),
            "digests": torch.zeros(2, 8, dtype=torch.uint8),
            "splits": torch.zeros(2, dtype=torch.uint8),
            "classes": ["a", "b"],
        },
        parent="p" * 64,
        scores={"val/accuracy": 0.5},
        command="python scripts/train.py",
        settings={"fit.epochs": 2},
        date="2026-01-01T00:00:00+00:00",
        change="+3 images",
        lineage=[{"checkpoint": "p" * 64, "command": "x", "scores": {"val/accuracy": 0.25}}],
        scratch_epochs=2,
    )
    return task.eval()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_networks_load_or_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "outer" / "run"
    file = run / "best.ckpt"
    save(file, _task())
    kept = tmp_path / "kept.txt"
    kept.write_text("kept")

    def use() -> None:
        task = load(file).float()  # as an export does
        task(task.example_images(1))
        load_provenance(file)
        follow(file)

    assert 0 < fuzz(file, use) < NUM
    assert {f.name for f in tmp_path.rglob("*")} == {"outer", "run", "best.ckpt", "kept.txt"}


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.filterwarnings("ignore")  # Lightning's, of callbacks that a file does not have
@pytest.mark.parametrize("option", [{}, {"ema": 0.9, "patience": 3}], ids=["plain", "ema"])
def test_runs_go_on_or_are_refused(
    data: GrowingData, tmp_path: Path, option: dict[str, Any]
) -> None:
    begun, run = tmp_path / "begun", tmp_path / "outer" / "run"
    fit = Fit(**{**vars(FIT), **option})
    task = _task()
    trainer = make_trainer(task, Fit(**{**vars(fit), "epochs": 1}), begun)
    train(task, data, trainer, begun)
    shutil.copytree(begun, run)
    (tmp_path / "outer" / "kept.txt").write_text("kept")
    other = _snapshot(begun)
    file = run / "last.ckpt"

    def reset() -> None:
        shutil.copyfile(begun / "best.ckpt", run / "best.ckpt")
        shutil.rmtree(run / "tensorboard", ignore_errors=True)

    def use() -> None:
        again = load(file)
        train(again, data, make_trainer(again, fit, run), run, resume=file)

    assert 0 < fuzz(file, use, reset=reset) < NUM
    assert _snapshot(begun) == other
    assert (tmp_path / "outer" / "kept.txt").read_text() == "kept"
    assert {f.name for f in tmp_path.iterdir()} == {"begun", "outer"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_starts_are_read_or_refused(tmp_path: Path, data: GrowingData) -> None:
    count = len(data.snapshot.indices("train"))
    history = History(3, 5, [True] * count, [Part(str(tmp_path / "memory"), True, ("train",))])
    start = WarmStart(
        parent=str(tmp_path / "old.ckpt"),
        parent_hash="0" * 64,
        renamed={"x": "a"},
        removed=["y"],
        old_names={"a": "x"},
        diff={"text": "+3 images", "num_added": 3},
        score=0.5,
        num_leaked=1,
        history=history,
    )
    start.write(tmp_path)

    def use() -> None:
        again = WarmStart.read(tmp_path)
        assert again is not None
        assert (again.said, again.history.num_all, again.history.forgets) is not None
        with contextlib.suppress(BadInput):  # there is none
            Parent.of(again).check()
        again.write(tmp_path / "again")

    assert 0 < fuzz(tmp_path / "start.json", use, is_json=True) < NUM


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_promoted_files_are_followed_or_refused(tmp_path: Path) -> None:
    old, new = tmp_path / "old" / "best.ckpt", tmp_path / "new" / "best.ckpt"
    save(old, _task())
    save(new, _task())
    file, secret = tmp_path / "old" / "promoted.json", tmp_path / "secret.txt"
    secret.write_text("secret")
    promote(file, old, [], None)

    def use() -> None:
        named = read_promoted(file)
        assert named is None or named == old or not is_there(named)
        served = promote(tmp_path / "new" / "promoted.json", new, ["why"], old)
        assert served in (None, old)
        (tmp_path / "new" / "promoted.json").unlink(missing_ok=True)

    assert 0 < fuzz(file, use, is_json=True) < NUM
    assert secret.read_text() == "secret"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_pruning_runs_are_read_or_refused(tmp_path: Path) -> None:
    task = _task()
    task.momenta = {
        name: {"step": torch.tensor(3.0), "exp_avg": torch.zeros_like(p), "exp_avg_sq": p.detach()}
        for name, p in task.net.named_parameters()
    }
    step = Step(1, 9, 8, 0.0, None, 0.5, True, {"stem.0": [1]}, {"stem.0": 1}, 0.0)
    cut = Cut({("stem.0", "out"): [1]}, {"stem.0": [1]}, 0.0)
    progress = Progress(task, 0.5, Pace(0.5, 0.5, 0.5), [step], [cut], {"head": "why"})
    progress.importance, progress.sensitivity = {"stem.0": [0.5, 0.25]}, {"stem.0": 0.1}
    file = tmp_path / "progress.ckpt"
    save_progress(file, progress, {"seed": 0})

    def use() -> None:
        again, settings = load_progress(file)
        again.kept_units()
        save_progress(tmp_path / "again.ckpt", again, settings)
        again.task.configure_optimizers()

    assert 0 < fuzz(file, use) < NUM
