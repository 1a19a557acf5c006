"""Records sorted by their time in bounded memory, however they come: slot by slot, on the disk.

A record belongs to a slot, such as its minute. Slots follow each other in time, so that only the
records of one slot have to be sorted at once.
"""

import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

MOST = 2**14  # records in memory
FEWEST = 2**12  # that are given back at once, if there are so many


class TimeOrder:
    """Records in the order of their time, and of equal time in that of their keys.

    Args:
        dtype: The type of the records, with the fields `time` and `key`.
        scratch: The folder whose disk takes what is too much for the memory; None takes the
            system's for temporary files. No file is left, whatever ends the process.
    """

    def __init__(self, dtype: np.dtype[Any], scratch: Path | None = None) -> None:
        self.dtype, self.scratch = dtype, scratch
        self._held: dict[int, list[np.ndarray]] = {}
        self._num_held = 0
        self._written: dict[int, list[tuple[int, int]]] = {}  # place in the file, and bytes
        self._file: IO[bytes] | None = None

    def add(self, records: np.ndarray, slots: np.ndarray) -> None:
        """Add records.

        Args:
            records: The records, (n,).
            slots: The slot of each, whole numbers (n,): of a later one all times are later.
        """
        for slot in np.unique(slots):
            self._held.setdefault(int(slot), []).append(records[slots == slot])
        self._num_held += len(records)
        if self._num_held > MOST:
            self._write()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all records in their order, whole slots at a time."""
        parts: list[np.ndarray] = []
        for slot in sorted({*self._held, *self._written}):
            parts += [*self._read(slot), *self._held.get(slot, ())]
            if sum(map(len, parts)) >= FEWEST:
                yield _sorted(parts)
                parts = []
        if parts:
            yield _sorted(parts)

    def _write(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self.scratch)  # noqa: SIM115 - with this object
            weakref.finalize(self, self._file.close)
        for slot, parts in self._held.items():
            content = b"".join(part.tobytes() for part in parts)
            place = self._file.seek(0, 2)
            self._file.write(content)
            self._written.setdefault(slot, []).append((place, len(content)))
        self._held, self._num_held = {}, 0

    def _read(self, slot: int) -> Iterator[np.ndarray]:
        for place, size in self._written.get(slot, ()):
            if self._file is not None:
                self._file.seek(place)
                yield np.frombuffer(self._file.read(size), dtype=self.dtype)


def _sorted(parts: list[np.ndarray]) -> np.ndarray:
    records = np.concatenate(parts)
    found: np.ndarray = records[np.lexsort((records["key"], records["time"]))]
    return found
