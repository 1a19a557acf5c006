"""TensorBoard's HParams tab: settings and final scores of each run."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter, summary

from regrow.models.task import Task
from regrow.text import printable


def common_hparams(command: str, task: Task, epochs: int, lr: float) -> dict[str, Any]:
    """Return the settings that runs of all commands have in common.

    Args:
        command: The command, such as `train`.
        task: The task with its network.
        epochs: Number of training epochs, per step if there are several steps.
        lr: The learning rate.
    """
    return {"command": command, "net": task.net_name, "epochs": epochs, "lr": lr}


def log_hparams(
    logger: Logger | None, hparams: Mapping[str, Any], scores: Mapping[str, float], step: int = 0
) -> None:
    """Write the settings and final scores of a run to TensorBoard's HParams tab.

    Args:
        logger: The run's logger; without one nothing is written.
        hparams: Settings, perhaps nested; lists and None are shown as text.
        scores: Final scores by name.
        step: The step at which the scores are logged.
    """
    writer = _writer(logger)
    if writer is not None:
        write_hparams(writer, hparams, scores, step)


def write_hparams(
    writer: SummaryWriter, hparams: Mapping[str, Any], scores: Mapping[str, float], step: int = 0
) -> None:
    """Write the settings and final scores of a run to TensorBoard's HParams tab, by a writer.

    Commands have different settings. TensorBoard takes its columns from the first run that declares
    some, and leaves those of others blank. So no run declares any: then it shows all columns.

    Args:
        writer: The writer of the run's other figures.
        hparams: Settings, perhaps nested; lists and None are shown as text.
        scores: Final scores by name.
        step: The step at which the scores are logged.
    """
    values = {
        # TensorBoard cannot write text that is not UTF-8.
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
    """Flatten nested settings to dotted names, such as `data.batch_size`.

    Args:
        settings: Nested mappings; the arguments of a class, below `init_args`, are named as
            settings of the option that takes the class.
        prefix: Prefix of all names.
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
