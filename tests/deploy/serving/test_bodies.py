"""A response to a body that was not read is whole before the body is dropped."""

import asyncio
from typing import Any

import pytest

from regrow.deploy.serving import bodies
from regrow.deploy.serving.bodies import Unread


def told(headers: list[tuple[bytes, bytes]], *parts: dict[str, Any]) -> tuple[list[Any], int]:
    """Return what a response sends, and how many parts of the body it takes first."""
    sent, taken = [], 0
    left = list(parts)

    async def receive() -> dict[str, Any]:
        nonlocal taken
        if not left:
            await asyncio.Event().wait()
        taken += 1
        return left.pop(0)

    async def send(message: Any) -> None:
        sent.append((message["type"], message.get("body"), message.get("more_body"), taken))

    asyncio.run(Unread("no", 413)({"type": "http", "headers": headers}, receive, send))
    return sent, taken


def part(more_body: bool = True, size: int = 10) -> dict[str, Any]:
    return {"type": "http.request", "body": b"x" * size, "more_body": more_body}


def test_the_response_is_sent_first_and_ends_when_the_body_has() -> None:
    sent, taken = told([], part(), part(), part(more_body=False), part())
    assert [message[1:] for message in sent[1:]] == [(b"no", True, 0), (b"", False, 3)]
    assert taken == 3


def test_a_client_that_leaves_or_asks_first_is_not_waited_for() -> None:
    assert told([], part(), {"type": "http.disconnect"}, part())[1] == 2
    assert told([(b"expect", b"100-continue")], part())[1] == 0


def test_a_body_without_end_is_dropped_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "DROPPED", 25)
    assert told([], *[part()] * 9)[1] == 3
    monkeypatch.setattr(bodies, "PATIENCE", 0.01)
    assert told([], part())[1] == 1
