"""Bodies of requests: read within a limit, and given up when the client leaves."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")
BUSY = {"retry-after": "1"}


class Refused(Exception):
    """A request that is not answered, for a reason that one line tells.

    Args:
        status: The HTTP status.
        text: The line.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.headers = status, headers or {}


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body of a request; one that is too long is refused before it is read.

    Raises:
        Refused: If it has more bytes than the limit, says so, or has none.
        ClientDisconnect: If the client leaves.
    """
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdigit() and (len(said) > 18 or int(said) > limit):
        raise _too_long(f"{said[:18]} bytes", limit)
    parts, total = [], 0
    async for part in request.stream():
        total += len(part)
        if total > limit:
            raise _too_long("more", limit)
        parts.append(part)
    if not total:
        raise Refused(400, "the body is empty; send a picture")
    return b"".join(parts)


def _too_long(size: str, limit: int) -> Refused:
    return Refused(
        413,
        f"the body has {size}, and {limit:,} are the limit; send a JPEG, which is smaller than an "
        "array, or a smaller picture",
        {"connection": "close"},
    )


async def unless_gone(request: Request, work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Return what work returns; it is cancelled when the client leaves, or time is over.

    Args:
        request: A request whose body was read.
        work: The work.
        seconds: How long it may take.

    Raises:
        ClientDisconnect: If the client leaves.
        Refused: If time is over.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientDisconnect
        raise Refused(503, f"no answer within {seconds:g} seconds; try again later", BUSY)
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
