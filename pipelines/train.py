"""The training pipeline: train a network, or warm-start it from a checkpoint on grown data."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytorch_lightning import seed_everything

from regrow.data.module import GrowingData
from regrow.incremental.gating.gate import Gate
from regrow.incremental.growth import Growth
from regrow.models.task import Task
from regrow.pipelines.training.request import Request, Sparsity
from regrow.pipelines.training.session import Session
from regrow.reporting.lock import releases_folders
from regrow.reporting.report import Report
from regrow.training.fit import Fit

# What the command itself gives to `run_training`.
NO_OPTIONS = ("settings", "command_line")


@releases_folders
def run_training(
    task: Callable[[list[str], tuple[int, int]], Task],
    data: GrowingData,
    fit: Fit = Fit(),
    run: Path = Path("runs/train"),
    warm_start: Path | None = None,
    growth: Growth = Growth(),
    renamed: dict[str, str] | None = None,
    removed: list[str] | None = None,
    sparsity: Sparsity = "keep",
    allow_forgetting: bool = False,
    replay: float | None = None,
    gate: Gate | None = None,
    promoted: Path | None = None,
    resume: str | None = None,
    allow: list[str] | None = None,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    command_line: str = "",
) -> Report:
    """Train a network, and write checkpoints, TensorBoard logs and a report to the run's folder.

    Args:
        task: The task and its network.
        data: The images and their labels.
        fit: Settings of the training, such as its epochs.
        run: The run's folder; an earlier run there is moved aside.
        warm_start: Warm start: a checkpoint to start from; architecture and classes come from it.
        growth: Settings of a warm start.
        renamed: Renamed classes, old name to new name, for a warm start.
        removed: Classes of the checkpoint to give up on purpose, for a warm start.
        sparsity: Masks and channels of a pruned network in a warm start: `keep` leaves them as they
            are; `regrow` is dynamic sparse training (RigL) at constant cost: masked weights come
            back, and as many, the smallest, are masked again in the first three quarters of the
            run; removed channels come back for a third of the epochs, and are pruned again to the
            old cost; `dense` restores all for good.
        allow_forgetting: Warm-start on new images alone, although no memory of the old was kept.
        replay: Replay memory: store some of the images in the run's folder, for later warm starts
            on new images alone: their number, or a share in (0, 1].
        gate: The gate: the least that a network must keep and reach to be served; null decides
            nothing.
        promoted: The file that names the checkpoint to serve, which the gate writes; by default
            `promoted.json` in the run's folder.
        resume: Resume a stopped run: one of its checkpoints, or `auto` for its newest; where there
            is none yet, `auto` begins the run, so that a command may be repeated as it is.
        allow: Other people's packages that a checkpoint's network may come from.
        seed: Seed of fresh weights and dropout; that of order and augmentation is data.seed.
        settings: The settings of the run as plain data; a resumed run must repeat them.
        command_line: The command, for the report.

    Returns:
        The report, written.

    Raises:
        BadInput: If anything given cannot be used.
        CheckFailed: If the file is not the network that was scored; all files are there all the
            same, and it is not served.
    """
    since = time.monotonic()
    request = Request(
        task,
        data,
        fit,
        run,
        warm_start=warm_start,
        growth=growth,
        # YAML takes a name such as 1 for a number, which stays one in a mapping's keys.
        renamed={str(old): new for old, new in (renamed or {}).items()},
        removed=list(removed or []),
        sparsity=sparsity,
        allow_forgetting=allow_forgetting,
        replay=replay,
        gate=gate,
        promoted=promoted,
        resume=resume,
        allow=tuple(allow or ()),
        seed=seed,
        settings=settings or {},
        command_line=command_line,
    )
    is_resumed = request.finds_a_run()
    if not is_resumed:
        request.refuse_alone()
    request.refuse_contradictions()
    seed_everything(seed, verbose=False)
    session = Session.resumed(request) if is_resumed else Session.begun(request)
    session.train()
    return session.finish(since)
