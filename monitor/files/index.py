"""Index of a folder of captures: which file holds events of which hour.

A file is read for it once, and again when it has changed; so a file that comes late, or lies under
another hour than its events because a clock went back, is found all the same.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

from regrow.data.checks.remarks import Remarks
from regrow.errors import BadInput
from regrow.files import LARGE, name_below, read_json, write_json
from regrow.logs import log
from regrow.monitor.files.captures import capture_files, read_event_lines
from regrow.monitor.files.times import as_text, hour_of, parse_time
from regrow.plain import MISSHAPEN

BACKWARDS = timedelta(minutes=5)  # requests at once end in another order than they began


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """What the index knows of a file.

    Args:
        stamp: Size in bytes, and time of the last change in nanoseconds.
        counts: Its events by the hour that they lie in.
        sums: The sum of the hashes of their lines, in hexadecimal, by the hour: it tells whether
            the events of an hour are still the same.
        num_backwards: How often the clock went back between two lines.
    """

    stamp: tuple[int, int]
    counts: Mapping[datetime, int]
    sums: Mapping[datetime, str]
    num_backwards: int


class CaptureIndex:
    """The files of a folder of captures, by the hours of their events.

    Args:
        folder: The folder of the captures.
        files: What is known of each file, by its path below the folder.
    """

    def __init__(self, folder: Path, files: Mapping[str, IndexedFile]) -> None:
        self.folder, self.files = folder, dict(files)

    @classmethod
    def read(cls, folder: Path, cache: Path | None, remarks: Remarks) -> "CaptureIndex":
        """Index a folder; files that a cache knows unchanged are not read again.

        Args:
            folder: The folder of the captures.
            cache: Where the index is kept; None keeps none.
            remarks: Lines that cannot be read are counted here.

        Raises:
            BadInput: If there is no such folder.
        """
        known = _cached(cache, folder)
        files = {}
        for file in capture_files(folder):
            name, status = name_below(folder, file), file.stat()
            stamp = (status.st_size, status.st_mtime_ns)
            before = known.get(name)
            files[name] = before if before and before.stamp == stamp else _scan(file, remarks)
        index = cls(folder, files)
        if cache is not None:
            write_json(cache, index._to_dict())
        return index

    def hours(self) -> list[datetime]:
        """Return the hours that have events, earliest first."""
        return sorted({hour for file in self.files.values() for hour in file.counts})

    def of_hour(self, hour: datetime) -> dict[str, int]:
        """Return the files with events of an hour, and how many each has."""
        return {n: f.counts[hour] for n, f in self.files.items() if hour in f.counts}

    def fingerprint(self, hour: datetime) -> dict[str, list[int | str]]:
        """Return the files with events of an hour, how many each has, and the sum of their hashes.

        It is another one where an event came, went or changed, in whatever file.
        """
        return {n: [count, self.files[n].sums[hour]] for n, count in self.of_hour(hour).items()}

    def _to_dict(self) -> dict[str, Any]:
        files = {}
        for name, file in self.files.items():
            hours = {as_text(h): [count, file.sums[h]] for h, count in file.counts.items()}
            files[name] = [*file.stamp, file.num_backwards, hours]
        return {"folder": str(self.folder.absolute()), "files": files}


def _scan(file: Path, remarks: Remarks) -> IndexedFile:
    status = file.stat()
    counts: Counter[datetime] = Counter()
    sums: Counter[datetime] = Counter()
    backwards = 0
    last: datetime | None = None
    for line, event in read_event_lines(file, remarks):
        hour = hour_of(event.time)
        counts[hour] += 1
        sums[hour] += int.from_bytes(blake2b(line, digest_size=8).digest(), "big")
        backwards += last is not None and event.time < last - BACKWARDS
        last = event.time
    texts = {hour: f"{total % 2**64:x}" for hour, total in sums.items()}
    return IndexedFile((status.st_size, status.st_mtime_ns), counts, texts, backwards)


def _cached(cache: Path | None, folder: Path) -> dict[str, IndexedFile]:
    """Return what a cache knows; one that is damaged or of another folder knows nothing."""
    if cache is None or not cache.is_file():
        return {}
    try:
        content = read_json(cache, LARGE)
        if content["folder"] != str(folder.absolute()):
            return {}
        found = {}
        for name, (size, changed, back, hours) in content["files"].items():
            counts = {parse_time(hour): int(count) for hour, (count, _) in hours.items()}
            sums = {parse_time(hour): str(total) for hour, (_, total) in hours.items()}
            found[name] = IndexedFile((size, changed), counts, sums, back)
        return found
    except (BadInput, *MISSHAPEN):
        log.warning(f"{cache}: damaged, made again from the captures")
        return {}
