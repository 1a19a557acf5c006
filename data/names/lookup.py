"""Files that a list names, found below a folder: one to one, and never outside of it.

A name may be a path below the folder, or the address that the file had elsewhere: S3, a disk of
another machine, Windows. Of an address only the end holds here, and how much of it is one decision
for a whole list: where each row were looked up by itself, `s3://b/day1/1.png` and
`s3://b/day2/1.png` could both end at `1.png`.

Names may not lead out of the folder. Links may, where a person made them in a folder of theirs;
what a run has stored holds no links, and there none may lead out.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from regrow.data.checks.faults import Faults, shown

LONGEST_NAME = 4096  # PATH_MAX of Linux: no file has a longer one
DEEPEST = 64  # folders in a name; there are twice as many mappings to try
NUM_TRIED = 200  # rows that choose among mappings none of which fits all
NUM_PLACES = 16  # buckets and the like that get a mapping of their own

Parts = tuple[str, ...]


def split_name(name: Any) -> tuple[str, Parts] | None:
    """Split a name into where it is from, such as a bucket, and its parts below that.

    Returns:
        None where it is no name of a file, or leads out of its folder.
    """
    if not isinstance(name, str) or len(name) > LONGEST_NAME or "\0" in name:
        return None
    found = re.match(r"[A-Za-z][\w+.-]*://[^/]*/|[A-Za-z]:[\\/]|[\\/]", name)
    start = found.group() if found else ""
    parts: list[str] = []
    for part in re.split(r"[\\/]", name[len(start) :]):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return (start, tuple(parts)) if 0 < len(parts) <= DEEPEST else None


class Folder:
    """The files below a folder by their names, in whichever Unicode form these are.

    Args:
        root: The folder.
        allows_links: Whether links may lead out of it.
    """

    def __init__(self, root: Path, allows_links: bool = True) -> None:
        self.root, self.allows_links = root, allows_links
        # Names in normal form to those on the disk, by folder; two that are one are not told apart.
        self._listed = lru_cache(maxsize=None)(_listed)

    def find(self, parts: Sequence[str]) -> Path | None:
        """Return the file of a name, if there is one.

        Args:
            parts: As `split_name` gives them.
        """
        file = self.root.joinpath(*parts)
        if not _is_file(file):
            file = self.root
            for part in parts:
                called = self._listed(file).get(unicodedata.normalize("NFC", part))
                if called is None:
                    return None
                file = file / called
            if not _is_file(file):
                return None
        if self.allows_links or _stays(file, self.root):
            return file
        return None


def find_file(root: Path, name: Any, allows_links: bool = True) -> Path | None:
    """Return the file that a name means below a folder, if there is one.

    Args:
        root: The folder.
        name: A path below it.
        allows_links: Whether links may lead out of it.
    """
    found = split_name(name)
    return Folder(root, allows_links).find(found[1]) if found else None


def match_files(
    names: Mapping[str, Any], folders: Sequence[Path], faults: Faults, what: str = "image"
) -> dict[str, Path]:
    """Find the files that the rows of a list name, by one mapping for all that come from one place.

    Args:
        names: By row what it names.
        folders: Where to look, the first that has all of them.
        faults: Where rows are noted whose file is not there, or is that of another name too.
        what: What the files are.

    Returns:
        The file of each other row.
    """
    places: dict[str, dict[str, Parts]] = defaultdict(dict)
    for where, name in names.items():
        found = split_name(name)
        if found:
            place = found[0] if found[0] in places or len(places) < NUM_PLACES else "others"
            places[place][where] = found[1]
    files: dict[str, Path] = {}
    hints: dict[str, str] = {}
    below = [Folder(folder) for folder in dict.fromkeys(folders)]
    for rows in places.values():
        folder, end, hint = _mapping(rows, below)
        hints |= dict.fromkeys(rows, hint)
        for where, parts in rows.items():
            file = folder.find(parts[end]) if parts[end] else None
            if file is not None:
                files[where] = file
    for where, name in names.items():
        if where not in files:
            line = f"{where}: no {what} {shown(name)} below {folders[-1]}{hints.get(where, '')}"
            faults.add(f"{line}; correct the name or add the file", where)
    return one_to_one(names, files, faults)


def _mapping(rows: Mapping[str, Parts], folders: Sequence[Folder]) -> tuple[Folder, slice, str]:
    """Choose the folder, and the part of each name that holds there."""
    some = list(rows.values())[:NUM_TRIED]
    best, most = (folders[0], slice(None), ""), 0
    for folder, end, hint in _mappings(max(map(len, rows.values())), folders):
        count = sum(bool(parts[end]) and folder.find(parts[end]) is not None for parts in some)
        if count > most:
            best, most = (folder, end, hint), count
        if count == len(some) and all(p[end] and folder.find(p[end]) for p in rows.values()):
            return folder, end, hint
    return best


def _mappings(depth: int, folders: Sequence[Folder]) -> Iterator[tuple[Folder, slice, str]]:
    for folder in folders:
        for num_gone in range(depth):
            hint = f" (as of others, less the first {num_gone} folders of the name)"
            yield folder, slice(num_gone, None), hint if num_gone else ""
        for num_kept in range(depth - 1, 0, -1):
            yield (
                folder,
                slice(-num_kept, None),
                f" (as of others, the last {num_kept} of its name)",
            )


def one_to_one(
    names: Mapping[str, Any], files: Mapping[str, Path], faults: Faults
) -> dict[str, Path]:
    """Note the rows that end at one file by different names, and return the others."""
    rows: dict[Path, list[str]] = defaultdict(list)
    for where, file in files.items():
        rows[file].append(where)
    for file, own in rows.items():
        for where in own if len({names[row] for row in own}) > 1 else []:
            other = next(row for row in own if names[row] != names[where])
            mine = "its image" if names[where] == where else shown(names[where])
            theirs = "that of" if names[other] == other else f"{shown(names[other])} of"
            faults.add(
                f"{where}: {mine} is the file {file}, and so is {theirs} {other}; "
                "give each a file of its own",
                where,
            )
    return {w: f for w, f in files.items() if len({names[row] for row in rows[f]}) == 1}


def by_stem(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Sort files by their names without ending, in normal form C."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        found[unicodedata.normalize("NFC", file.stem)].append(file)
    return found


def _listed(folder: Path) -> dict[str, str]:
    try:
        return {unicodedata.normalize("NFC", name): name for name in os.listdir(folder)}
    except (OSError, ValueError):
        return {}


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except (OSError, ValueError):  # a name that is too long, or none in any encoding
        return False


def _stays(file: Path, root: Path) -> bool:
    return file.resolve().is_relative_to(root.resolve())
