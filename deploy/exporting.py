"""ONNX export: a file gets its name only where ONNX Runtime agrees with PyTorch."""

import multiprocessing
import signal
from collections.abc import Iterable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from torch import Tensor

from regrow.deploy.parity import Parity, check_parity
from regrow.errors import BadInput
from regrow.files import one_line
from regrow.models.checkpoint import load
from regrow.models.modes import evaluating
from regrow.models.onnx.graph import OPSET, export_graph
from regrow.models.onnx.metadata import InputType
from regrow.models.task import Task

MODEL_FILE = "model.onnx"


def export(task: Task, path: Path, *, opset: int = OPSET, input_type: InputType = "uint8") -> Path:
    """Export a task, pruned or not, as ONNX.

    Args:
        task: The task; exported in evaluation mode, its modes are put back.
        path: The file, or a folder in which it becomes `model.onnx`.
        opset: Version of ONNX's operators.
        input_type: Of the images, see `regrow.models.onnx.graph.export_graph`.

    Returns:
        The file.

    Raises:
        BadInput: If the network cannot be exported, or not in these operators.
    """
    file = path if path.suffix == ".onnx" else path / MODEL_FILE
    return export_graph(task, file, opset=opset, input_type=input_type)


def export_verified(
    task: Task,
    path: Path,
    loader: Iterable[tuple[Tensor, Any]],
    *,
    opset: int = OPSET,
    input_type: InputType = "uint8",
    tolerance: float = 1e-4,
    max_score_change: float = 0.005,
    max_images: int | None = None,
) -> Parity:
    """Export a task as ONNX and compare ONNX Runtime with torch on held-out images.

    The file gets its name only if the two agree: before that it is called `model.unverified.onnx`,
    and where they do not agree it stays under that name, to be looked at.

    Args:
        task: The task.
        path: The file, or a folder in which it becomes `model.onnx`.
        loader: Held-out images and targets.
        opset: Version of ONNX's operators.
        input_type: Of the images, see `regrow.models.onnx.graph.export_graph`.
        tolerance: As in `regrow.deploy.parity.check_parity`.
        max_score_change: Likewise.
        max_images: Likewise.

    Returns:
        The comparison, whose `path` is the file.

    Raises:
        BadInput: If the network cannot be exported, or there are no images.
    """
    file = path if path.suffix == ".onnx" else path / MODEL_FILE
    unverified = file.with_suffix(".unverified.onnx")
    export_graph(task, unverified, opset=opset, input_type=input_type)
    with evaluating(task):
        parity = check_parity(
            task,
            unverified,
            loader,
            tolerance=tolerance,
            max_score_change=max_score_change,
            max_images=max_images,
        )
    if not parity.is_equal:
        return parity
    unverified.replace(file)
    return replace(parity, path=file)


class ExportApart:
    """Exports of checkpoints in processes of their own, which take the exporter's memory with them.

    Threads may export at once, and another one may stop them all.
    """

    def __init__(self) -> None:
        self._processes: set[BaseProcess] = set()

    def export(self, checkpoint: Path, path: Path, *, allow: Sequence[str] = ()) -> Path:
        """Export a checkpoint as ONNX.

        Args:
            checkpoint: The checkpoint.
            path: The file.
            allow: Other people's packages that its network may come from.

        Returns:
            The file.

        Raises:
            BadInput: If the checkpoint cannot be loaded or exported, or the process is stopped.
        """
        context = multiprocessing.get_context("spawn")
        said, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=_export_apart, args=(checkpoint, path, tuple(allow), sender), daemon=True
        )
        process.start()
        self._processes.add(process)
        sender.close()
        try:
            error = said.recv()
        except EOFError:
            error = f"{checkpoint}: its export was stopped"
        finally:
            process.join()
            self._processes.discard(process)
            said.close()
        if error:
            raise BadInput(error)
        return path

    def stop(self) -> None:
        """Stop what is exported now."""
        for process in list(self._processes):
            process.kill()


def _export_apart(checkpoint: Path, path: Path, allow: tuple[str, ...], said: Connection) -> None:
    """Export in a process of its own, and tell why it fails; nothing where it does not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that started it
    try:
        export(load(checkpoint, allow=allow), path)
    except BadInput as error:
        said.send(str(error))
    except Exception as error:
        said.send(f"{checkpoint}: cannot be exported ({one_line(error)})")
    else:
        said.send("")
