"""A training job in a SageMaker container: train, export, deliver, and say why it failed."""

import contextlib
import ctypes
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities.exceptions import SIGTERMException

from regrow.deploy.sagemaker.contract import Container, base_folder, is_first_process
from regrow.deploy.sagemaker.delivery import deliver
from regrow.deploy.sagemaker.options import TrainingCall, training_call
from regrow.errors import BadInput, CheckFailed
from regrow.files import write_text
from regrow.logs import log

PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def run_container(
    train: Callable[[TrainingCall], Any],
    export: Callable[[Path, Path], Any],
    configs: Path,
    options: Collection[str] = (),
) -> None:
    """Train as the platform asks, export, and leave the results where the platform looks.

    A run that was interrupted is continued from the folder of checkpoints. At SIGTERM the training
    ends after its batch with a checkpoint, and what there is so far is delivered. Any other end is
    written to `output/failure`: the platform shows its first 1,024 characters.

    Args:
        train: Trains with the options of a job.
        export: Exports and verifies a checkpoint, into the run folder given beside it.
        configs: The folder with regrow's own configs.
        options: The names of the training's options.

    Raises:
        BadInput: If the job cannot be run as it stands.
        Exception: Whatever else ends it.
    """
    base, container = base_folder(), None
    is_first = is_first_process()
    try:
        if is_first:
            failure_file(base).unlink(missing_ok=True)
        container = Container.from_environment()
        call = training_call(container, configs, options)
        log.info(f"train {shlex.join(call.words())}")
        with _exit_is_refused(), _named_if_resumed("resume" in call.options):
            train(call)
        if is_first:
            deliver(container.run, base / "model")
            with _exit_is_refused():
                export(container.run / "best.ckpt", container.run / "export")
            deliver(container.run, base / "model")
    except (SIGTERMException, KeyboardInterrupt):
        if is_first and container is not None:
            deliver(container.run, base / "model")
        raise
    except BaseException as error:
        write_failure(base, error)
        raise


def failure_file(base: Path) -> Path:
    """Return the file whose first 1,024 characters become the job's failure reason."""
    return base / "output" / "failure"


def write_failure(base: Path, error: BaseException) -> None:
    """Write why the job failed: one line, then the traceback."""
    line = " ".join(str(error).split())
    name = "" if isinstance(error, BadInput | CheckFailed) else f"{type(error).__name__}: "
    text = f"{name}{line}\n\n{''.join(traceback.format_exception(error))}"
    # A full disk must not hide the error itself.
    with contextlib.suppress(OSError):
        write_text(failure_file(base), text)


def stop_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies.

    SageMaker's toolkit starts a script as its child, and is killed by SIGTERM without a word to it;
    this is how the script gets to save its state. Where there is no such call it does nothing.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)


@contextlib.contextmanager
def _exit_is_refused() -> Iterator[None]:
    """Turn an exit that no signal asked for, which would count as success, into an error."""
    try:
        yield
    except SIGTERMException:
        raise
    except SystemExit as error:
        # Lightning exits after Ctrl-C.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise BadInput(
            "hyperparameters: one of them ends the process instead of training; leave it out"
        ) from error


@contextlib.contextmanager
def _named_if_resumed(is_resumed: bool) -> Iterator[None]:
    """Add to an error that it is the folder of checkpoints which makes a job go on with another."""
    try:
        yield
    except BadInput as error:
        if not is_resumed:
            raise
        raise BadInput(
            f"the checkpoints of an earlier job are continued, and {error}; for a new run, give "
            "the job another S3 location for checkpoints"
        ) from error
