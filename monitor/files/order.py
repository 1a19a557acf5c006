"""Events of a folder of captures in the order of their time, whatever files they lie in."""

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from regrow.data.checks.remarks import Remarks
from regrow.errors import BadInput
from regrow.files import open_regular
from regrow.monitor.draws import key_of
from regrow.monitor.files.captures import (
    BAD_LINE,
    MAX_LINE,
    Event,
    capture_files,
    parse_event,
    placed_lines,
)

TWICE = "events captured twice, of which the first counts"


def ordered_events(folder: Path, remarks: Remarks) -> Iterator[Event]:
    """Yield the events of all files in a folder by their time, each once.

    Files may lie under any hour and come late. Of each event 28 bytes are kept until its turn
    comes, and its line is read again then.

    Args:
        folder: The folder of the captures.
        remarks: What is left out is counted here.

    Raises:
        BadInput: If there is no such folder, or a file cannot be read.
    """
    files = capture_files(folder)
    times, numbers, places, keys = array("d"), array("i"), array("q"), array("Q")
    for number, file in enumerate(files):
        for place, line in placed_lines(file, remarks, BAD_LINE):
            try:
                event = parse_event(line)
            except BadInput as error:
                remarks.add(BAD_LINE, f"{file.name}: {str(error)[:200]}")
                continue
            times.append(event.time.timestamp())
            numbers.append(number)
            places.append(place)
            keys.append(key_of(event.id))
    order = np.lexsort((np.array(places), np.array(numbers), np.array(times)))
    first = np.zeros(len(order), dtype=bool)
    first[np.unique(np.array(keys, dtype=np.uint64)[order], return_index=True)[1]] = True
    for one, is_first in zip(order, first, strict=True):
        event = _event_at(files[numbers[one]], places[one])
        if is_first:
            yield event
        else:
            remarks.add(TWICE, event.name)


def _event_at(file: Path, place: int) -> Event:
    """Return the event whose line begins at a byte of a file.

    Raises:
        BadInput: If there is none any more, as the file was changed.
    """
    try:
        with open_regular(file) as opened:
            opened.seek(place)
            return parse_event(opened.readline(MAX_LINE + 1))
    except OSError as error:
        raise BadInput(f"{file}: cannot be read ({error.strerror or error})") from error
    except BadInput as error:
        raise BadInput(f"{file}: was changed while it was read ({error})") from error
