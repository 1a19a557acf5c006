"""Stages of a training run, each with a state of its own, and the checkpoint to go on from.

The last stage, which every run has, keeps its checkpoints in the run's folder itself. A stage
before it has a folder within, which is removed when the run is over.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regrow.errors import BadInput
from regrow.logs import log
from regrow.models.checkpoint import read

# The folder of the stage in which the channels of a pruned network are back, and learn.
WIDE = "wide"
# The folders of the stages before the last one, in their order.
EARLIER = (WIDE,)


def furthest(folder: Path) -> Path | None:
    """Return the checkpoint of a stage that has taken the most steps; None if there is none.

    Files that were copied, or restored by a platform, have any time; their count of steps is right.

    Args:
        folder: The stage's folder. A checkpoint there that cannot be read is named and passed over.
    """
    found = []
    for file in sorted(folder.glob("*.ckpt")):
        try:
            payload = read(file)
        except BadInput as error:
            log.warning(f"passed over: {error}")
            continue
        if is_resumable(payload):
            # The last one has the state after the epoch's end, the best one that before.
            found.append((payload["global_step"], file.stem == "last", file))
    return max(found)[-1] if found else None


def earlier_stage(run: Path) -> Path | None:
    """Return the folder of the stage that a run was stopped in, or before the next one's state.

    Args:
        run: The run's folder.

    Returns:
        The folder; None if the run was stopped in its last stage, or holds no state at all.
    """
    begun = [run / name for name in reversed(EARLIER) if (run / name).is_dir()]
    if not begun or furthest(run) is not None:
        return None
    return next((folder for folder in begun if furthest(folder) is not None), None)


def way_to_resume(run: Path) -> str | None:
    """Return what `--resume` takes for a run to go on; None where there is nothing to go on from.

    Args:
        run: The run's folder.
    """
    if earlier_stage(run) is not None:
        return "auto"
    found = furthest(run)
    return str(found) if found is not None else None


def remove_earlier(run: Path) -> None:
    """Remove the states of the stages before the last one, which a finished run has no use for."""
    for name in EARLIER:
        shutil.rmtree(run / name, ignore_errors=True)


def is_resumable(payload: Mapping[str, Any]) -> bool:
    """Whether a checkpoint holds the state of a training run, of Lightning's shape."""
    types = {"global_step": int, "epoch": int, "loops": dict, "optimizer_states": list}
    types |= {"callbacks": dict, "lr_schedulers": list}
    is_like = all(type(payload.get(name)) is kind for name, kind in types.items())
    return is_like and payload["global_step"] >= 0 and payload["epoch"] >= 0
