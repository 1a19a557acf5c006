"""Bodies of requests: read within a limit, and given up when the client leaves."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")
BUSY = {"retry-after": "1"}
DROPPED, PATIENCE = 2**26, 2.0  # bytes and seconds of a body that nobody reads


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


class Unread(Response):
    """A response to a request whose body was not read.

    Many clients look at the response only after they have sent their body, and a connection that is
    closed before that is all they see. So for a moment what still comes is dropped.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response whole, then drop what comes, then end it."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        # Who asks first whether to send it at all is not asked to.
        if not any(name == b"expect" for name, _ in scope["headers"]):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await _drop(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drop(receive: Receive) -> None:
    total = 0
    while total < DROPPED:
        message = await receive()
        total += len(message.get("body", b""))
        if not message.get("more_body", False):
            return
