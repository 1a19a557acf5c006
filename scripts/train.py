"""Train a network, or warm-start it from a checkpoint on data that grew.

python scripts/train.py --config configs/classification.yaml
python scripts/train.py --config configs/classification.yaml --warm-start runs/old/best.ckpt
python scripts/train.py --config configs/classification.yaml --resume auto
"""

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import seed_everything

from regrow.data.errors import BadInput
from regrow.data.files import write_atomic
from regrow.data.module import GrowingData
from regrow.incremental.resume import find_stopped, load_stopped, refuse_changes
from regrow.incremental.warm_start import WarmStart, warm_start_
from regrow.models.ancestors import descent, now
from regrow.models.checkpoint import file_hash, load
from regrow.models.classification import Classification
from regrow.models.command import DATA_CHOICES, parse, write_data_file
from regrow.models.dashboard import flat, log_hparams, save_prediction_picture
from regrow.models.detection import Detection
from regrow.models.evaluation import Evaluation, evaluate
from regrow.models.masks import regrow_
from regrow.models.nets import TIMM, TORCHVISION
from regrow.models.report import Report, device_name
from regrow.models.run import command, guard, open_run, refuse_run
from regrow.models.segmentation import Segmentation
from regrow.models.task import Provenance, Task
from regrow.models.training import Fit, make_trainer, train


def run_training(
    task: Callable[[list[str], tuple[int, int]], Task],
    data: GrowingData,
    fit: Fit = Fit(),  # noqa: B008 - frozen
    run: Path = Path("runs/train"),
    warm_start: Path | None = None,
    resume: str | None = None,
    renamed: dict[str, str] | None = None,
    removed: list[str] | None = None,
    regrow: bool = False,
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
        regrow: Let the masked weights of the checkpoint grow again, for a warm start.
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
    if not 0 <= seed < 2**32:
        raise BadInput(f"seed is {seed}, it must lie in [0, 2**32)")
    if warm_start is not None and resume is not None:
        raise BadInput("--warm-start begins a new run and --resume continues one; give one of them")
    seed_everything(seed, verbose=False)
    values, continued = flat(settings) if settings else {}, None
    if resume is not None:
        continued = find_stopped(run, resume)
        net = _around(load_stopped(continued, data, packages), task)
        trainer = make_trainer(net, fit, run)
        refuse_changes(net.provenance.settings, values | {"processes": trainer.world_size})
    else:
        refuse_run(run, warm_start)
        parent = load(warm_start, allow=packages, kind=data.kind) if warm_start else None
        if parent is not None:
            parent.to(dtype=fit.dtype)
        if parent is not None and regrow:
            regrow_(parent.net)
        net, grown = _begin(task, data, parent, fit.device, renamed, removed)
        trainer = make_trainer(net, fit, run)
        run = open_run(run, command_line)
        net.provenance = Provenance(
            data=data.snapshot.hash,
            manifest=data.snapshot.manifest().to_dict(),
            parent=file_hash(warm_start) if warm_start else None,
            command=command_line,
            settings=values | {"processes": trainer.world_size},
            date=now(),
            change=str(grown.diff) if grown is not None and grown.diff is not None else None,
            lineage=descent(file_hash(warm_start), net.provenance) if warm_start else [],
        )
        _remember(run, grown)
        if settings:
            write_data_file(run, settings)
    train(net, data, trainer, run, seed=seed, resume=continued)
    data.trainer = None  # whatever trained, one process scores all images
    after = evaluate(net, data.val_dataloader(), description="validation")
    report = _report(net, data, after, run, trainer.current_epoch)
    report.set(
        seconds=round(time.monotonic() - started, 1),
        seeds=[seed],
        device=device_name(net.mean.device),
    )
    if trainer.is_global_zero:
        picture = run / "predictions.png"
        save_prediction_picture(net, data, picture)
        report.add_picture(picture, "The first validation images: truth, prediction")
        log_hparams(trainer.logger, values or asdict(fit), {"final/score": after.value})
    report.write()
    if trainer.is_global_zero:
        print(
            f"{_kept(run)}: {after.name} {after.value:.4f} on {after.num_images} "
            f"validation images; report: {run / 'report.md'}"
        )
    return report


def _begin(
    make: Callable[..., Task],
    data: GrowingData,
    parent: Task | None,
    device: torch.device,
    renamed: dict[str, str] | None,
    removed: list[str] | None,
) -> tuple[Task, WarmStart | None]:
    task = _around(parent, make) if parent is not None else make(data.classes, data.size)
    if task.kind != data.kind:
        raise BadInput(f"{type(task).__name__} needs {task.kind}, the data has {data.kind}")
    if parent is None:
        data.order_classes(task.classes)
        _refuse_images(task, data)
        return task, None
    task.to(device)
    # YAML takes a name such as 1 for a number, which the parser leaves in a mapping's keys.
    named = {str(old): new for old, new in (renamed or {}).items()}
    grown = warm_start_(task, data, renamed=named, removed=tuple(removed or ()))
    _refuse_images(task, data)
    print(f"data: {grown.diff or 'the checkpoint does not say what it was trained on'}")
    print(
        f"the old model on the new validation images: {grown.before.name} {grown.before.value:.4f}"
    )
    return task, grown


def _refuse_images(task: Task, data: GrowingData) -> None:
    """Refuse images of a size, or in a number, that a network of the libraries cannot take.

    Your own network says it itself.
    """
    if not task.net_name.startswith((TORCHVISION, TIMM)):
        return
    trial = copy.deepcopy(task)
    batch = min(data.batch_size, len(data.snapshot.indices("train")), 2)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            what = f"images of data.size {list(task.size)}"
            trial.eval()(task.example_images(2))
            what = f"data.batch_size {batch}"
            trial.train()(task.example_images(batch))
    except (AssertionError, RuntimeError, ValueError, IndexError) as error:
        raise BadInput(
            f"net {task.net_name!r} cannot take {what} ({error}); change it, or what the net "
            "expects in task.net_args"
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
    if task.kind == loaded.kind:
        task.net, task.provenance = loaded.net, loaded.provenance
    return task


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


def _kept(run: Path) -> Path:
    """Give the checkpoint with the weights that were scored last."""
    return next((run / n for n in ("best.ckpt", "last.ckpt") if (run / n).is_file()), run)


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
    is_chosen = _kept(run).stem == "best"
    report.say(
        f"The {'best' if is_chosen else 'last'} model of {epochs} epoch{'s' * (epochs != 1)} "
        f"reaches {after.name} {after.value:.4f} on {after.num_images} validation images"
        f"{', which also chose it' * is_chosen}."
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
