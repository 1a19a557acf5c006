"""Memory for models: how much is free, and how much one will take."""

from collections.abc import Iterator
from pathlib import Path

# Bytes of memory by bytes of the file: the graph as it is parsed, and the weights as ONNX Runtime
# lays them out. Measured 2.4 to 3.1 for ResNet-18 and ResNet-101.
BY_FILE = 3
EXPORT = 2**30  # of a process that exports a checkpoint
MARGIN = 2**27  # for the requests that are under way
UNLIMITED = 2**62  # what a control group without a limit has is beyond


def refuse_shortage(file: Path, root: Path = Path("/")) -> None:
    """Refuse a model that the free memory will not hold, before it is loaded.

    Where the system does not say how much is free, every model is tried.

    Args:
        file: The ONNX file, or a checkpoint, which is exported first.
        root: The folder of `proc` and `sys`.

    Raises:
        MemoryError: If it will not fit.
    """
    needed = BY_FILE * file.stat().st_size + (0 if file.suffix == ".onnx" else EXPORT)
    free = available(root)
    if free is not None and free < needed + MARGIN:
        raise MemoryError(
            f"{file.name} takes about {needed / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are "
            "free"
        )


def available(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory that are free, by the machine and all limits of control groups.

    What files have in memory is given up when it is needed, so it is free.

    Source: proc(5), `MemAvailable`; the kernel's `cgroup-v2.rst` and `cgroup-v1/memory.rst`.

    Args:
        root: The folder of `proc` and `sys`.

    Returns:
        The bytes; None where the system does not say.
    """
    machine = _fields(root / "proc/meminfo").get("MemAvailable:")
    rooms = [] if machine is None else [machine * 2**10]
    return min((*rooms, *_rooms(root)), default=None)


def _rooms(root: Path) -> Iterator[int]:
    """Yield the room that each control group of this process leaves, of version 2 or 1."""
    base = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if not names:
            top, limit, used, cached = base, "memory.max", "memory.current", "inactive_file"
        elif "memory" in names.split(","):
            top, limit = base / "memory", "memory.limit_in_bytes"
            used, cached = "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        own = top / path.lstrip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(top):
                most, taken = _text(group / limit), _text(group / used)
                if most.isdecimal() and taken.isdecimal() and int(most) < UNLIMITED:
                    files = _fields(group / "memory.stat").get(cached, 0)
                    yield max(0, int(most) - max(0, int(taken) - files))


def _fields(file: Path) -> dict[str, int]:
    """Return the numbers of a file that has a name and a number a line."""
    rows = [line.split() for line in _text(file).splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def _text(file: Path) -> str:
    try:
        return file.read_text("ascii", "replace").strip()
    except OSError:  # another system, or a group that is not ours to see
        return ""
