"""Replay: captured requests are sent to a server again, and the answers compared."""

import http.client
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from regrow.cli import parse
from regrow.data.checks.remarks import Remarks
from regrow.errors import BadInput, CheckFailed
from regrow.files import one_line, write_json
from regrow.logs import log
from regrow.monitor.files.captures import Body, Event
from regrow.monitor.files.order import ordered_events
from regrow.plain import parse_json

JSON = "application/json"
SECONDS, TRIES = 70.0, 5  # for an answer; SageMaker's clients wait as long
LONGEST = 64  # characters of an id
# Answers of one machine to one picture may differ in the last digits, by what it was batched with.
CLOSE = {"rel_tol": 1e-3, "abs_tol": 1e-4}
SAME, UNSENT = "requests answered the same", "requests whose input was not captured, not sent"
ALONE = "requests sent, whose answers were not captured"
DIFFERENT = "requests answered differently"
OTHER_MODEL = "requests answered by another model"
REFUSED = "requests that were refused"
Answer = tuple[int, bytes]
Ask = Callable[[bytes, Mapping[str, str]], Answer]


def run_replay(
    captures: Path, to: str = "http://127.0.0.1:8080", out: Path | None = None
) -> dict[str, Any]:
    """Send captured requests to a server in the order of their time, and compare its answers.

    Each is sent once the one before is answered, with the ids and attributes that it had.

    Args:
        captures: The folder of the captures.
        to: The address of the server; without a path that of `/invocations`.
        out: Where the counts are written as JSON; null writes none.

    Returns:
        The counts, and the first names of each kind.

    Raises:
        BadInput: If there are no captures, or no server.
        CheckFailed: If an answer is another one than was captured.
    """
    remarks, total = Remarks(), 0
    with closing(_connected(to)) as connection:
        ask = _asking(connection, to)
        for event in ordered_events(captures, remarks):
            kind, said = replay(event, ask)
            remarks.add(kind, f"{event.name}{said and f' ({said})'}")
            total += 1
    if not total:
        raise BadInput(f"{captures}: holds no captures; name the folder that a server captures to")
    found = dict(remarks.to_dict())
    if out is not None:
        write_json(out, found)
    for line in remarks.lines:
        log.info(line)
    wrong = sum(remarks.count(kind) for kind in (DIFFERENT, OTHER_MODEL, REFUSED))
    if wrong:
        raise CheckFailed(f"{to} answers {wrong:,} of {total:,} captured requests otherwise")
    return found


def replay(event: Event, ask: Ask) -> tuple[str, str]:
    """Send one captured request again, and return how the answer compares, and why.

    Args:
        event: The request and its answer.
        ask: Sends a body with headers, and returns status and body of the answer.
    """
    if event.input is None:
        return UNSENT, ""
    try:
        body, headers = event.input.content(), _headers(event, event.input)
    except BadInput as error:
        return REFUSED, str(error)[:200]
    status, content = ask(body, headers)
    text = content.decode("utf-8", "replace")
    if status != 200:
        return REFUSED, f"{status}: {text[:200]}"
    if event.output is None:
        return ALONE, ""
    if event.output.content_type != JSON:
        return (SAME if content == event.output.content() else DIFFERENT), ""
    try:
        captured, answer = event.output.json(), parse_json(text, "the answer")
    except BadInput as error:
        return DIFFERENT, str(error)[:200]
    if _model(captured) != _model(answer):
        return OTHER_MODEL, str(_model(answer))[:12]
    return (SAME if are_close(captured, answer) else DIFFERENT), ""


def are_close(one: Any, other: Any) -> bool:
    """Whether two values of JSON are the same but for the last digits of their numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(are_close(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(are_close(a, b) for a, b in pairs)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, **CLOSE)
    return type(one) is type(other) and bool(one == other)


def _model(answer: Any) -> Any:
    """Return the hash of the model in an answer, which V2 calls its version."""
    told = answer if isinstance(answer, dict) else {}
    return told.get("model", told.get("model_version"))


def _headers(event: Event, body: Body) -> dict[str, str]:
    """Return the headers of a captured request; an answer in the same form is asked for.

    Raises:
        BadInput: If they cannot be sent.
    """
    headers = {
        "Content-Type": body.observed_type,
        "Accept": event.output.observed_type if event.output is not None else "",
        "X-Amzn-SageMaker-Inference-Id": event.name[:LONGEST],
        "X-Amzn-SageMaker-Custom-Attributes": ";".join(
            f"{name}={value}" for name, value in event.attributes.items()
        ),
    }
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise BadInput(f"its {name} has letters that no header may have")
    return {name: value for name, value in headers.items() if value}


def _connected(to: str) -> http.client.HTTPConnection:
    try:
        address = urlsplit(to)
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        kind, host = kinds[address.scheme], address.hostname
        if not host:
            raise ValueError("no host")
        made: http.client.HTTPConnection = kind(host, address.port, timeout=SECONDS)
    except (KeyError, ValueError, http.client.InvalidURL) as error:
        raise BadInput(f"{to[:200]!r} is no address such as http://127.0.0.1:8080") from error
    return made


def _asking(connection: http.client.HTTPConnection, to: str) -> Ask:
    """Return what sends a body to a server; it comes again where the server is busy."""
    path = urlsplit(to).path.rstrip("/") or "/invocations"

    def ask(body: bytes, headers: Mapping[str, str]) -> Answer:
        try:
            for left in reversed(range(TRIES)):
                connection.request("POST", path, body, dict(headers))
                answer = connection.getresponse()
                content = answer.read()
                if answer.status != 503 or not left:
                    break
                time.sleep(1.0)
        except (OSError, http.client.HTTPException) as error:
            said = one_line(error) or type(error).__name__
            raise BadInput(f"{to}: no server answers there ({said}); start one") from error
        return answer.status, content

    return ask


def replay_captures(args: Sequence[str] | None = None) -> None:
    """Send captured requests to a server again, and compare its answers with the captured ones."""
    values, _ = parse(
        run_replay,
        args,
        description=replay_captures.__doc__ or "",
        positional={"captures": "The folder of the captures."},
    )
    run_replay(**values)
