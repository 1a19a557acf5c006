"""The checkpoint file: written atomically, described by its own record, loaded without code.

Besides Lightning's state it holds one record, `regrow`: the task and its arguments, the structure
and masks of a pruned network, and its provenance. A checkpoint is untrusted input, so a record may
name only regrow's own tasks, and networks that regrow, torchvision or timm list.
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import TorchCheckpointIO
from torch import Tensor, nn

from regrow.data.snapshot import Manifest
from regrow.errors import BadInput
from regrow.files import is_there, write_atomic
from regrow.models import masks
from regrow.models.nets.allowed import check_name
from regrow.models.nets.bounded import bounded, refuse_unlike
from regrow.models.nets.build import list_nets
from regrow.models.optimization import Optimization
from regrow.models.record import buffers, structure
from regrow.models.record.provenance import Provenance, read_lineage
from regrow.models.task import RECORD_VERSION, Task
from regrow.models.torch_file import is_plain, read_torch

TASKS = (
    "regrow.models.classification.Classification",
    "regrow.models.detection.Detection",
    "regrow.models.segmentation.Segmentation",
)
WAY_OUT = "take an earlier checkpoint of the run, or save it again with regrow"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning plugin that writes checkpoints atomically and refuses pickled code in them."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write the checkpoint atomically."""
        write_atomic(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read the checkpoint; a file of more than plain data and tensors is refused."""
        return read(Path(path))


def save(path: Path, task: Task, state: Mapping[str, Any] | None = None) -> None:
    """Write the checkpoint of a task outside of training.

    Args:
        path: The file; it is replaced atomically.
        task: The network with its classes and provenance.
        state: Further plain data and tensors by name, such as the state of a pruning run.
    """
    payload = {**(state or {}), "state_dict": task.state_dict(), "regrow": task.record()}
    write_atomic(path, lambda file: torch.save(payload, file))


def read(path: Path) -> dict[str, Any]:
    """Read the content of a checkpoint file as plain data and tensors, on the CPU.

    Raises:
        BadInput: If the file is missing, truncated, needs pickled code, or is not regrow's.
    """
    if not is_there(path):
        raise BadInput(f"{path}: no such checkpoint; give the path of a .ckpt file")
    try:
        payload = read_torch(path)
    except BadInput as error:
        raise BadInput(f"{error}; {WAY_OUT}") from error
    content: dict[str, Any] = payload if isinstance(payload, dict) else {}
    record = content.get("regrow")
    if not isinstance(record, dict) or not isinstance(content.get("state_dict"), dict):
        raise BadInput(
            f"{path}: not a regrow checkpoint; a plain state dict goes to the task's `weights`"
        )
    version = record.get("version")
    if type(version) is not int or version != RECORD_VERSION:
        said = version if type(version) is int else f"of a {type(version).__name__}"
        raise BadInput(
            f"{path}: written in format {said}, this regrow reads {RECORD_VERSION}; install the "
            "regrow that wrote it"
        )
    if not all(isinstance(name, str) for name in content["state_dict"]):
        raise BadInput(f"{path}: its weights have names that are no text; {WAY_OUT}")
    return content


def load(path: Path, *, allow: tuple[str, ...] = (), kind: str | None = None) -> Task:
    """Load the network of a checkpoint, pruned or not, bit for bit.

    Args:
        path: The checkpoint.
        allow: Top-level packages other than regrow, torchvision and timm that the network may be
            imported from.
        kind: Expected kind of targets (`labels`, `boxes`, `masks`), if any.

    Returns:
        The task, in evaluation mode, on the CPU, in the precision of the file.

    Raises:
        BadInput: If the file cannot be used, names something it may not, or is of another kind.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from regrow.models import Classification, load, save
        >>> path = Path(tempfile.mkdtemp(), "cats.ckpt")
        >>> save(path, Classification(["cat", "dog"], (32, 32)))
        >>> load(path).classes
        ['cat', 'dog']
    """
    payload = read(path)
    record = payload["regrow"]
    try:
        state = net_state(payload)
        task, runs = _build(record, state, allow)
        empty = structure.rebuild_(task.net, record["structure"])
        take_dtypes_(task, state)
        _refuse_numbers_of_other_kinds(task.net, state)
        task.net.load_state_dict(state)
        if empty - state.keys():
            raise BadInput(f"its weights lack {', '.join(sorted(empty - state.keys()))}")
        buffers.rebuild_(task.net, record.get("buffers", {}))
        masks.rebuild_(task.net, record.get("masks", {}))
        task.provenance = _provenance(record["provenance"])
        # An allowed network is the user's own and may need a GPU, so it is not called here.
        if not runs and task.net_name in list_nets(task.kind):
            _call(task)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    # The record is untrusted, so loading it may raise anything.
    except Exception as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path}: its record does not fit its weights ({line})") from error
    if kind is not None and task.kind != kind:
        raise BadInput(
            f"{path}: holds a {type(task).__name__.lower()} network for {task.kind}, "
            f"the data has {kind}; give a checkpoint of the same task"
        )
    return task.eval()


def load_provenance(path: Path) -> Provenance:
    """Read the provenance of a checkpoint, without building its network.

    Raises:
        BadInput: If the file cannot be used.
    """
    return provenance_of(read(path), path)


def provenance_of(payload: Mapping[str, Any], path: Path) -> Provenance:
    """Return the provenance in the content of a checkpoint.

    Args:
        payload: The content, as `read` returns it.
        path: The file, for errors.

    Raises:
        BadInput: If the content has no valid provenance.
    """
    try:
        return _provenance(payload["regrow"]["provenance"])
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    except Exception as error:  # untrusted, as in `load`
        raise BadInput(f"{path}: its record does not say where it comes from") from error


def net_state(payload: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of the network alone, by their names inside the network."""
    state = payload["state_dict"]
    return {n.removeprefix("net."): v for n, v in state.items() if n.startswith("net.")}


def take_dtypes_(task: Task, state: Mapping[str, Any]) -> None:
    """Cast a task, in place, to the floating-point types of the weights that it will load.

    Tensors that no file holds, such as the mean of the images, take the type of the first weight,
    as if the whole task were cast.
    """
    dtypes = {n: v.dtype for n, v in state.items() if isinstance(v, Tensor)}
    changed = _of_another_dtype(task.net, dtypes)
    first = next((n for n, dtype in dtypes.items() if dtype.is_floating_point), None)
    if first in changed:
        task.to(dtypes[first])
        changed = _of_another_dtype(task.net, dtypes)
    for name, tensor in changed.items():
        tensor.data = tensor.data.to(dtypes[name])


def _refuse_numbers_of_other_kinds(net: nn.Module, state: Mapping[str, Any]) -> None:
    """Refuse weights of another kind of number than the network's: whole, real or complex.

    Loading would round them, or drop their imaginary part.

    Raises:
        BadInput: Naming the first such weight.
    """
    for name, tensor in net.state_dict(keep_vars=True).items():
        found = state.get(name)
        if not isinstance(tensor, Tensor) or not isinstance(found, Tensor):
            continue
        kinds = [(t.is_floating_point(), t.is_complex()) for t in (tensor, found)]
        if kinds[0] != kinds[1]:
            raise BadInput(f"{name} in it is {found.dtype}, in the network {tensor.dtype}")


def _of_another_dtype(net: nn.Module, dtypes: Mapping[str, torch.dtype]) -> dict[str, Tensor]:
    """Return the tensors of a network that a file holds in another float type, by name."""
    return {
        name: tensor
        for name, tensor in net.state_dict(keep_vars=True).items()
        if name in dtypes and dtypes[name].is_floating_point and tensor.is_floating_point()
        if tensor.dtype != dtypes[name]
    }


@torch.no_grad()
def _call(task: Task) -> None:
    """Call a copy of a network once, in single precision, to find one that cannot run."""
    with torch.random.fork_rng(devices=[]):
        copy.deepcopy(task).eval().float()(task.example_images())


def _build(
    record: Mapping[str, Any], state: Mapping[str, Tensor], allow: tuple[str, ...]
) -> tuple[Task, bool]:
    """Build the dense task of a record; also return whether its network is known to run."""
    name, args = record["task"], dict(record["args"])
    if name not in TASKS:
        raise BadInput(f"names the task {name!r}; regrow's own are {', '.join(TASKS)}")
    module, _, qualname = name.rpartition(".")
    task_class: type[Task] = getattr(import_module(module), qualname)
    if not is_plain(args):
        raise BadInput("its record has arguments that are no numbers, texts or lists of them")
    for refused in ("weights", "penalties"):
        if args.get(refused) is not None:
            raise BadInput(f"its record asks for {refused!r}, which a file may not name")
    check_name(task_class.kind, args.get("net", "small"), args.get("net_args") or {}, allow)
    optimization = args.get("optimization")
    if optimization is not None:
        args["optimization"] = Optimization(**optimization)
    with torch.random.fork_rng(devices=[]):
        runs = refuse_unlike(task_class.kind, args, record, state)
        with bounded(state):
            return task_class(**args), runs


def _provenance(values: Mapping[str, Any]) -> Provenance:
    known = {entry.name for entry in fields(Provenance)}
    provenance = Provenance(**{name: value for name, value in values.items() if name in known})
    optional = (provenance.data, provenance.parent, provenance.change)
    texts = [provenance.command, provenance.date, *(t for t in optional if t is not None)]
    if not all(isinstance(text, str) for text in texts):
        raise BadInput("its provenance has hashes or a command that are no text")
    for name in ("scores", "settings"):
        mapping = getattr(provenance, name)
        if not isinstance(mapping, Mapping) or not all(isinstance(key, str) for key in mapping):
            raise BadInput(f"its provenance has {name} that are no mapping of names")
    if not all(type(score) in (int, float) for score in provenance.scores.values()):
        raise BadInput("its provenance has scores that are no numbers")
    epochs = provenance.scratch_epochs
    if type(epochs) is not int or not 0 <= epochs < 2**53:
        raise BadInput("its provenance has epochs that are no number of them")
    provenance.lineage = [asdict(ancestor) for ancestor in read_lineage(provenance.lineage)]
    if provenance.manifest is not None:
        Manifest.from_dict(provenance.manifest)
    return provenance
