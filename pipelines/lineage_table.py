"""The chain of checkpoints that a network comes from, printed as tables or as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from json import dumps
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from regrow.cli import parse
from regrow.models.record.provenance import Ancestor
from regrow.pipelines.lineage import SHORT, Chain, Link, follow
from regrow.text import plural, printable

WIDTH = 100  # characters, where there is no terminal that says so
FEW = 10  # scores and class names that are shown


def run_lineage(run: Path, json: bool = False, folders: list[Path] | None = None) -> Chain:
    """Print the chain of checkpoints that a network comes from, oldest first.

    Args:
        run: The run's folder, or a checkpoint.
        json: Print it as JSON, whole.
        folders: Further folders where the files of parents may lie; those beside the run are
            looked through anyway.

    Returns:
        The chain.

    Raises:
        BadInput: If there is no checkpoint, or it cannot be used.
    """
    chain = follow(run, folders or [])
    if json:
        print(_as_json(chain))
        return chain
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    if chain.end is not None:
        console.print(Text(f"The chain breaks off: {printable(chain.end)}."))
        console.print()
    for number, link in enumerate(chain.links, 1):
        console.print(_entry(number, link))
        console.print()
    return chain


def _as_json(chain: Chain) -> str:
    links = [
        {**asdict(link.ancestor), "path": str(link.path) if link.path is not None else None}
        for link in chain.links
    ]
    return dumps({"chain": links, "end": chain.end}, indent=2)


def _entry(number: int, link: Link) -> Table:
    """Return a checkpoint as a small table of names and values."""
    ancestor = link.ancestor
    where = str(link.path) if link.path is not None else "its file was not found"
    change = "a training from the start"
    if ancestor.parent is not None:
        change = f"{ancestor.change or 'unknown'}, from {ancestor.parent[:SHORT]}"
    lines = {
        "checkpoint": f"{ancestor.checkpoint[:SHORT]}: {where}",
        "made": ancestor.date or "before dates were kept",
        "command": ancestor.command or "not recorded",
        "data": _data(ancestor),
        "change": change,
        "scores": _scores(ancestor.scores),
    }
    table = Table.grid(padding=(0, 2))
    for place, (name, value) in enumerate(lines.items()):
        mark = f"{number}" if place == 0 else ""
        style = "bold" if place == 0 else ""
        table.add_row(Text(mark, "bold"), Text(name, "dim"), Text(printable(value), style))
    return table


def _data(ancestor: Ancestor) -> str:
    if ancestor.data is None:
        return "not recorded"
    images = ", ".join(f"{count:,} {split}" for split, count in ancestor.num_images.items())
    names, count = ", ".join(ancestor.classes[:FEW]), ancestor.num_classes
    more = f" and {count - FEW} more" if count > FEW else ""
    classes = f"{plural(count, 'class', 'es')}: {names}{more}"
    return f"{ancestor.data[:SHORT]}: {images} images; {classes}"


def _scores(scores: Mapping[str, float]) -> str:
    shown = [f"{name} {value:.4f}" for name, value in list(scores.items())[:FEW]]
    return ", ".join(shown) or "not recorded"


def lineage(args: Sequence[str] | None = None) -> Chain:
    """Print what a network comes from: checkpoints, data, scores and commands, oldest first."""
    values, _ = parse(
        run_lineage,
        args,
        description=lineage.__doc__ or "",
        positional={"run": "The run's folder, or a checkpoint."},
    )
    return run_lineage(**values)
