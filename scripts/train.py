"""Train a network, or warm-start it from a checkpoint on data that grew.

python scripts/train.py --config configs/classification.yaml
python scripts/train.py --config configs/classification.yaml --warm_start runs/old/best.ckpt
python scripts/train.py --config configs/classification.yaml --resume auto
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import seed_everything

from regrow.data.errors import BadInput
from regrow.data.module import GrowingData
from regrow.incremental.warm_start import WarmStart, warm_start_
from regrow.models.checkpoint import file_hash, load, write_atomic
from regrow.models.classification import Classification
from regrow.models.command import DATA_CHOICES, parse, write_data_file
from regrow.models.dashboard import log_hparams, save_prediction_picture
from regrow.models.detection import Detection
from regrow.models.evaluation import Evaluation, evaluate
from regrow.models.modes import evaluating
from regrow.models.nets import TIMM, TORCHVISION
from regrow.models.report import Report
from regrow.models.run import command, guard, newest_checkpoint, open_run
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task
from regrow.models.training import Fit, train

# What a resumed run may change: nothing that affects the weights.
FREE_ON_RESUME = {"run", "resume", "allow", "data.num_workers", "data.cache_bytes", "fit.images"}
# What a run began with lies behind it.
BEGINNING = {"warm_start", "renamed", "removed"}


def run_training(
    task: Callable[[list[str], tuple[int, int]], Task],
    data: GrowingData,
    fit: Fit = Fit(),  # noqa: B008 - frozen
    run: Path = Path("runs/train"),
    warm_start: Path | None = None,
    resume: str | None = None,
    renamed: dict[str, str] | None = None,
    removed: list[str] | None = None,
    allow: list[str] | None = None,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    command_line: str = "",
) -> Report:
    """Train, and leave `best.ckpt`, `last.ckpt`, TensorBoard logs and a report in the run folder.

    Args:
        task: The task and its network.
        data: The images and their labels.
        fit: How long and on what.
        run: The run's folder; one that exists is moved aside.
        warm_start: A checkpoint to start from; architecture and classes come from it.
        resume: A checkpoint of this run to go on from, or `auto` for its newest.
        renamed: Old class names to new ones, for a warm start.
        removed: Classes of the checkpoint to give up on purpose, for a warm start.
        allow: Other people's packages that a checkpoint's network may come from.
        seed: What fresh weights and dropout are functions of; order and augmentation are
            functions of data.seed.
        settings: The settings of the run as plain data; a resumed run must repeat them.
        command_line: The command, for the report.

    Returns:
        The report, written.

    Raises:
        BadInput: If anything given cannot be used.
    """
    started, packages = time.monotonic(), tuple(allow or ())
    seed_everything(seed, verbose=False)
    if warm_start is not None and resume is not None:
        raise BadInput("--warm-start begins a new run and --resume continues one; give one of them")
    continued = None
    if resume is not None:
        if resume == "auto":
            continued = newest_checkpoint(run, partial(load, allow=packages))
        else:
            continued = Path(resume)
        loaded = load(continued, allow=packages, kind=data.kind)
        _refuse_changes(loaded, settings or {}, data)
        data.order_classes(loaded.classes)
        net = _around(loaded, task)
        net.provenance = loaded.provenance
    else:
        parent = load(warm_start, allow=packages, kind=data.kind) if warm_start else None
        net, grown = _begin(task, data, parent, renamed, removed)
        run = open_run(run)
        net.provenance.parent = file_hash(warm_start) if warm_start else None
        net.provenance.data = data.snapshot.hash
        net.provenance.manifest = data.snapshot.manifest().to_dict()
        net.provenance.settings = _flat(settings or {})
        net.provenance.command = command_line
        _remember(run, grown)
        if settings:
            write_data_file(run, settings)
    trainer = train(net, data, fit, run, seed=seed, resume=continued)
    data.trainer = None  # whatever trained, one process scores all images
    after = evaluate(net, data.val_dataloader(), description="validation")
    report = _report(net, data, after, run, trainer.current_epoch)
    report.set(seconds=round(time.monotonic() - started, 1), seeds=[seed])
    if trainer.is_global_zero:
        picture = run / "predictions.png"
        save_prediction_picture(net, data, picture)
        report.add_picture(picture, "The first validation images: truth, prediction")
        values = _flat(settings) if settings else asdict(fit)
        log_hparams(trainer.logger, values, {"final/score": after.value})
    report.write()
    if trainer.is_global_zero:
        print(
            f"{run / 'best.ckpt'}: {after.name} {after.value:.4f} on {after.num_images} "
            f"validation images; report: {run / 'report.md'}"
        )
    return report


def _begin(
    make: Callable[..., Task],
    data: GrowingData,
    parent: Task | None,
    renamed: dict[str, str] | None,
    removed: list[str] | None,
) -> tuple[Task, WarmStart | None]:
    if parent is None:
        task = make(data.classes, data.size)
        if task.kind != data.kind:
            raise BadInput(f"{type(task).__name__} needs {task.kind}, the data has {data.kind}")
        _refuse_size(task)
        data.order_classes(task.classes)
        return task, None
    if parent.size != data.size:
        raise BadInput(
            f"the checkpoint was trained on images of {parent.size}, data.size is {data.size}; "
            f"set data.size to {list(parent.size)}"
        )
    grown = warm_start_(parent, data, renamed=renamed, removed=tuple(removed or ()))
    print(f"data: {grown.diff or 'the checkpoint does not say what it was trained on'}")
    print(
        f"the old model on the new validation images: {grown.before.name} {grown.before.value:.4f}"
    )
    return _around(parent, make), grown


def _refuse_size(task: Task) -> None:
    """Refuse images of a size that the libraries' network cannot take; your own says it itself."""
    if not task.net_name.startswith((TORCHVISION, TIMM)):
        return
    try:
        with evaluating(task), torch.no_grad():
            task(task.example_images(2))
    except (AssertionError, RuntimeError, ValueError, IndexError) as error:
        raise BadInput(
            f"net {task.net_name!r} cannot take images of data.size {list(task.size)} ({error}); "
            "change it, or give the net its size in task.net_args"
        ) from error


def _around(loaded: Task, make: Callable[..., Task]) -> Task:
    """Put the settings of this run around the network of a checkpoint."""
    task = make(
        loaded.classes,
        loaded.size,
        net=loaded.net_name,
        net_args=loaded.net_args,
        weights=None,
        mean=tuple(loaded.mean.flatten().tolist()),
        std=tuple(loaded.std.flatten().tolist()),
    )
    task.net = loaded.net
    return task


def _refuse_changes(task: Task, settings: dict[str, Any], data: GrowingData) -> None:
    old, new = task.provenance.settings, _flat(settings)
    for name in sorted(old.keys() | new.keys()):
        is_free = name in FREE_ON_RESUME or name.split(".")[0] in BEGINNING
        if not is_free and old.get(name) != new.get(name):
            raise BadInput(
                f"--resume cannot change {name} from {old.get(name)} to {new.get(name)}; "
                "keep it, or begin a new run with --warm-start"
            )
    if task.provenance.data != data.snapshot.hash:
        raise BadInput(
            "--resume needs the data that the run began with, and these differ; "
            "begin a new run on them with --warm-start"
        )


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(settings, dict) or not settings:
        return {prefix: settings}
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = prefix if name == "init_args" else f"{prefix}.{name}" if prefix else name
        flat |= _flat(value, inner)
    return flat


def _remember(run: Path, grown: WarmStart | None) -> None:
    """Keep what the report will need of the start, for a run that is resumed."""
    if grown is None:
        return
    start = {
        "diff": asdict(grown.diff) | {"text": str(grown.diff)} if grown.diff else None,
        "score": grown.before.value,
        "per_class": grown.before.per_class,
        "old_names": grown.label_map.old_names,
        "num_leaked": grown.num_leaked,
    }
    write_atomic(run / "start.json", lambda file: file.write(json.dumps(start).encode()))


def _report(task: Task, data: GrowingData, after: Evaluation, run: Path, epochs: int) -> Report:
    start_file = run / "start.json"
    start = json.loads(start_file.read_text()) if start_file.is_file() else None
    report = Report(
        run,
        title="Training" if start is None else "Warm start",
        command=task.provenance.command,
        task=type(task).__name__.lower(),
        classes=task.classes,
    )
    report.set_score(after.name, after.value)
    report.set(
        parent=task.provenance.parent,
        data={
            "hash": task.provenance.data,
            "diff": start["diff"] if start else None,
            "num_skipped": data.num_skipped,
        },
        others=after.others,
    )
    report.say(
        f"The best model of {epochs} epoch{'s' * (epochs != 1)} reaches {after.name} "
        f"{after.value:.4f} on {after.num_images} validation images, which also chose it."
    )
    if data.skipped:
        names = ", ".join(data.skipped[:20])
        report.say(f"{data.num_skipped} corrupt images were skipped: {names}.")
    if start is None:
        rows = [[name, value] for name, value in after.per_class.items()]
        report.add_table("Classes", ["class", after.name], rows)
        return report
    report.set(before_training={"score": start["score"]})
    change = start["diff"]["text"] if start["diff"] else "an unknown amount"
    report.say(
        f"The data changed by {change}; the old model scored {start['score']:.4f} on the same "
        "images before training."
    )
    if start["num_leaked"]:
        report.say(
            f"Beware: the old model was trained on {start['num_leaked']} of the validation and "
            "test images, so its score is too high."
        )
    report.add_per_class(start["per_class"], after.per_class, after.name, start["old_names"])
    return report


def run(args: Sequence[str] | None = None) -> Report:
    """Read the command line and train."""
    values, settings = parse(
        run_training,
        args,
        description=__doc__ or "",
        skip=["settings", "command_line"],
        choices={"task": [Classification, Detection, Segmentation], **DATA_CHOICES},
    )
    return run_training(**values, settings=settings, command_line=command(Path(__file__), args))


main = guard(run)

if __name__ == "__main__":
    raise SystemExit(main())
