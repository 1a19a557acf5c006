"""Hyperparameters and final scores, as TensorBoard compares them over runs."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter, summary

from regrow.models.task import Task
from regrow.text import printable


def common_hparams(command: str, task: Task, epochs: int, lr: float) -> dict[str, Any]:
    """Return the settings that runs of every command have, by the same names.

    Args:
        command: What was done, such as `train`.
        task: The network.
        epochs: How long it was trained, each time.
        lr: The learning rate.
    """
    return {"command": command, "net": task.net_name, "epochs": epochs, "lr": lr}


def log_hparams(
    logger: Logger | None, hparams: Mapping[str, Any], scores: Mapping[str, float], step: int = 0
) -> None:
    """Put the settings and final scores of a run into TensorBoard's HParams tab.

    Args:
        logger: The run's logger; nothing happens without one.
        hparams: Settings, nested as they may be; lists and None are shown as text.
        scores: Final scores by name.
        step: Where the scores stand among the run's other figures.
    """
    writer = _writer(logger)
    if writer is not None:
        write_hparams(writer, hparams, scores, step)


def write_hparams(
    writer: SummaryWriter, hparams: Mapping[str, Any], scores: Mapping[str, float], step: int = 0
) -> None:
    """Put the settings and final scores of a run into TensorBoard's HParams tab.

    Commands have different settings, and TensorBoard takes its columns from the first run that
    lists some: those of others stay blank. Where no run does, it shows the columns of all.

    Args:
        writer: What writes the run's other figures.
        hparams: Settings, nested as they may be; lists and None are shown as text.
        scores: Final scores by name.
        step: Where the scores stand among the run's other figures.
    """
    values = {
        # Of text that is no UTF-8 its files cannot be written.
        printable(name): value if type(value) in (int, float) else printable(str(value))
        for name, value in flat(hparams).items()
    }
    for name, score in scores.items():
        writer.add_scalar(name, score, step)
    _, started, ended = summary.hparams(values, {})
    for part in (started, ended):
        writer._get_file_writer().add_summary(part)
    writer.flush()


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Give nested settings by dotted name, such as `data.batch_size`.

    Args:
        settings: Mappings within mappings; the arguments of a class, below `init_args`, count as
            settings of what the class is given for.
        prefix: What all names begin with.
    """
    if not isinstance(settings, Mapping) or not settings:
        return {prefix: settings}
    found: dict[str, Any] = {}
    for name, value in settings.items():
        inner = prefix if name == "init_args" else f"{prefix}.{name}" if prefix else name
        found |= flat(value, inner)
    return found


def _writer(logger: Logger | None) -> SummaryWriter | None:
    return logger.experiment if isinstance(logger, TensorBoardLogger) else None
