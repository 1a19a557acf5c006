"""Extracting: captures are written again with what was computed from their pictures in its place.

Each worker extracts its share, whatever files that holds, and the run of a monitor over what all
have written gives the files that it would give over the captures themselves.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from heapq import heapify, heappush, heapreplace
from pathlib import Path
from typing import IO, Any

from regrow.data.checks.remarks import Remarks
from regrow.data.images.conversion import Decoding
from regrow.errors import BadInput
from regrow.files import LARGE, name_below, read_json, write_atomic, write_json
from regrow.logs import log
from regrow.monitor.examples import example_key
from regrow.monitor.features import VERSION
from regrow.monitor.files.captures import (
    BAD_LINE,
    MAX_LINE,
    Event,
    capture_files,
    parse_event,
    read_lines,
)
from regrow.monitor.files.extracts import MAX_PICTURES, Extract, extracted_line, unreadable_line
from regrow.monitor.files.times import as_text, hour_of, parse_time
from regrow.monitor.network.sample import sample_key
from regrow.monitor.rows import is_stale, measure, model_of, picture_id
from regrow.plain import MISSHAPEN
from regrow.progress import progress

STATE = "extracted.json"
MAX_HOURS = 720  # whose smallest keys are known; of others more pictures are kept than needed


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is extracted.

    Args:
        model: The hash of the model whose pictures are kept.
        grey_range: The values of 16-bit grey pictures that become 0 and 255.
        num_examples: How many examples an hour keeps.
        num_sampled: How many pictures of an hour the network is run on.
    """

    model: str
    grey_range: tuple[int, int] | None
    num_examples: int
    num_sampled: int


@dataclass(slots=True)
class Extracted:
    """What was extracted in one go.

    Args:
        num_files: Files of captures.
        num_unchanged: Those among them that were extracted before.
        num_captures: Captures that were extracted now.
        num_kept: Those among them that have their pictures still.
        bytes_before: The bytes of their files.
        bytes_after: The bytes of what was made of these.
    """

    num_files: int = 0
    num_unchanged: int = 0
    num_captures: int = 0
    num_kept: int = 0
    bytes_before: int = 0
    bytes_after: int = 0


class Lowest:
    """The smallest of all keys that were offered, each once.

    Those of each part of the captures hold those of all.

    Args:
        count: How many there are at most.
        keys: Those that are known already.
    """

    def __init__(self, count: int, keys: Iterable[int] = ()) -> None:
        self._count, self.keys = count, set[int]()
        self._heap = list[int]()
        for key in keys:
            self.offer(key)
        heapify(self._heap)

    def offer(self, key: int) -> bool:
        """Take a key if it is one of the smallest so far, and return whether it is."""
        if key in self.keys:
            return True
        if len(self._heap) < self._count:
            heappush(self._heap, -key)
        elif self._count and -key > self._heap[0]:
            self.keys.remove(-heapreplace(self._heap, -key))
        else:
            return False
        self.keys.add(key)
        return True


class Extractor:
    """Writes the extracts of the captures in a folder, file by file, into another one.

    Args:
        captures: The folder of the captures.
        out: The folder of the extracts.
        wanted: What is extracted.

    Raises:
        BadInput: If one folder lies in the other, or the second one holds something else.
    """

    def __init__(self, captures: Path, out: Path, wanted: Wanted) -> None:
        _refuse_folder(captures, out)
        self.captures, self.out, self.wanted = captures, out, wanted
        self.remarks, self.done = Remarks(), Extracted()
        self._decoding = Decoding(grey_range=wanted.grey_range)
        self._files: dict[str, tuple[int, int]] = {}
        self._hours: dict[datetime, tuple[Lowest, Lowest]] = {}

    def run(self) -> Extracted:
        """Extract the files that are new or have changed, and return how much that was.

        Raises:
            BadInput: If a file cannot be read.
        """
        self._read_state()
        self._write_state()  # it marks the folder
        files = capture_files(self.captures)
        self.done.num_files = len(files)
        try:
            for file in progress(files, "extract", len(files)):
                self._extract_file(file, name_below(self.captures, file))
        finally:
            self._write_state()
        self.remarks.warn(str(self.captures))
        return self.done

    def _extract_file(self, file: Path, name: str) -> None:
        status, made = file.stat(), self.out / name
        stamp = (status.st_size, status.st_mtime_ns)
        if self._files.get(name) == stamp and made.is_file():
            self.done.num_unchanged += 1
            return
        write_atomic(made, partial(self._write, file))
        self._files[name] = stamp
        self.done.bytes_before += stamp[0]
        self.done.bytes_after += made.stat().st_size

    def _write(self, file: Path, opened: IO[bytes]) -> None:
        long = Remarks()
        for line in read_lines(file, long):
            opened.write(self._line(line, file.name))
        for _ in range(long.count(BAD_LINE)):
            opened.write(unreadable_line(f"longer than {MAX_LINE:,} bytes"))
        self.remarks.take(long)

    def _line(self, line: bytes, name: str) -> bytes:
        """Return the line that takes the place of one; what cannot be extracted stays."""
        try:
            event = parse_event(line)
        except BadInput as error:
            self.remarks.add(BAD_LINE, f"{name}: {str(error)[:200]}")
            return unreadable_line(str(error))
        self.done.num_captures += 1
        same = line if line.endswith(b"\n") else line + b"\n"
        if is_stale(event, self._decoding):
            return same
        try:
            pictures, reason = tuple(measure(event, self._decoding)[0]), ""
        except BadInput as error:
            pictures, reason = (), str(error)
        if len(pictures) > MAX_PICTURES:
            return same
        extract = Extract(pictures, reason, self.wanted.grey_range)
        keeps = event.input is not None and self._is_kept(event, len(pictures))
        made = extracted_line(line, extract, keeps_request=keeps)
        self.done.num_kept += keeps
        return made if len(made) <= MAX_LINE else same

    def _is_kept(self, event: Event, num_pictures: int) -> bool:
        """Whether a picture of an event may be one of the hour's examples, or of its sample."""
        if not num_pictures or model_of(event) not in (None, self.wanted.model):
            return False
        hour = hour_of(event.time)
        examples, sample = self._hours.get(hour) or self._note_hour(hour, (), ())
        ids = [picture_id(event, place) for place in range(num_pictures)]
        found = [examples.offer(example_key(own)) for own in ids]
        return any([*found, *(sample.offer(sample_key(own)) for own in ids)])

    def _note_hour(
        self, hour: datetime, examples: Iterable[int], sample: Iterable[int]
    ) -> tuple[Lowest, Lowest]:
        counts = self.wanted.num_examples, self.wanted.num_sampled
        made = Lowest(counts[0], examples), Lowest(counts[1], sample)
        self._hours[hour] = made
        if len(self._hours) > MAX_HOURS:
            del self._hours[min(self._hours)]
        return made

    def _read_state(self) -> None:
        """Go on from what was extracted before, if it was the same that was wanted."""
        file = self.out / STATE
        try:
            content = read_json(file, LARGE) if file.is_file() else {}
            if content.get("wanted") != self._wanted():
                return
            for name, (size, changed) in content["files"].items():
                self._files[name] = (int(size), int(changed))
            for hour, (examples, sample) in content["hours"].items():
                self._note_hour(parse_time(hour), map(_key, examples), map(_key, sample))
        except (BadInput, *MISSHAPEN):
            self._files, self._hours = {}, {}
            log.warning(f"{file}: damaged; all captures are extracted again")

    def _wanted(self) -> Mapping[str, Any]:
        ends = self.wanted.grey_range
        own = {"version": VERSION, "captures": str(self.captures.absolute())}
        return asdict(self.wanted) | own | {"grey_range": None if ends is None else [*ends]}

    def _write_state(self) -> None:
        hours = {
            as_text(hour): [[f"{key:016x}" for key in sorted(own.keys)] for own in pair]
            for hour, pair in sorted(self._hours.items())
        }
        content = {"wanted": self._wanted(), "files": self._files, "hours": hours}
        write_json(self.out / STATE, content)


def _key(text: Any) -> int:
    key = int(text, 16)
    if not 0 <= key < 2**64:
        raise ValueError("no key")
    return key


def _refuse_folder(captures: Path, out: Path) -> None:
    one, other = captures.resolve(), out.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise BadInput(f"{out}: lies in {captures}, or around it; name a folder beside it")
    found: list[Path] = []
    with suppress(FileNotFoundError):
        try:
            found = [*out.iterdir()]
        except NotADirectoryError as error:
            raise BadInput(f"{out}: is a file; name a folder") from error
    if any(not path.name.startswith(".") for path in found) and not (out / STATE).is_file():
        raise BadInput(f"{out}: holds other files than extracts of captures; name a new folder")
