"""A server has its socket, drains at the first signal and ends at once at the second."""

import asyncio
import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPResponse
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from regrow.deploy.serving import server
from regrow.deploy.serving.app import make_app
from regrow.deploy.serving.server import address_of, bound_socket
from regrow.deploy.serving.service import Limits, Service
from regrow.errors import BadInput


def test_a_socket_listens_before_anybody_serves() -> None:
    with closing(bound_socket("127.0.0.1", 0)) as made:
        host, port = made.getsockname()
        assert address_of(made) == f"http://127.0.0.1:{port}"
        assert port > 0
        with socket.create_connection((host, port), 5):
            pass


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    made: Any = SimpleNamespace(getsockname=lambda: ("::1", 8080, 0, 0))
    assert address_of(made) == "http://[::1]:8080"


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_there_is_not(port: int) -> None:
    with pytest.raises(BadInput, match=f"^port is {port}, it must be 0 to 65535$"):
        bound_socket("127.0.0.1", port)


def test_a_port_in_use_is_named_with_the_way_out() -> None:
    with closing(bound_socket("127.0.0.1", 0)) as made:
        port = made.getsockname()[1]
        with pytest.raises(BadInput, match=f"^port {port} of 127.0.0.1 is in use; .* --port 0 for"):
            bound_socket("127.0.0.1", port)
    with closing(bound_socket("127.0.0.1", port)):  # at once, though it was just used
        pass


@pytest.mark.parametrize("host", ["203.0.113.7", "a..b", "x" * 70])
def test_a_host_that_is_not_ours(host: str) -> None:
    """An address of documentation is no machine's, and labels have 1 to 63 characters."""
    with pytest.raises(BadInput, match=rf"^host {host}, port 0: cannot be served at \(.+\)$"):
        bound_socket(host, 0)


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.setattr(server, "DRAIN", 0.05)
    with closing(bound_socket("127.0.0.1", 0)) as made:
        yield made


def got(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


class Held:
    """An application whose one answer waits, and a client that asks for it."""

    def __init__(self, listening: socket.socket) -> None:
        self.service: Any = SimpleNamespace(is_draining=False)
        self.begun, self.may_end, self.answers = threading.Event(), threading.Event(), []
        self.app = Starlette(routes=[Route("/", self._answer)])
        self.url = address_of(listening)

    async def _answer(self, request: Request) -> Response:
        self.begun.set()
        while not self.may_end.is_set():
            await asyncio.sleep(0.005)
        return PlainTextResponse("whole")

    def ask(self) -> None:
        self.answers.append(got(self.url))


def run(held: Held, listening: socket.socket, *steps: Any) -> None:
    """Serve in this thread, since signals are the main thread's, and do the steps in another."""

    def act() -> None:
        asking = threading.Thread(target=held.ask)
        asking.start()
        assert held.begun.wait(20)
        for step in steps:
            step()
        asking.join(20)

    acting = threading.Thread(target=act)
    acting.start()
    server.run(held.app, held.service, listening, "mine")
    acting.join(20)
    assert not acting.is_alive()


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def drained(held: Held) -> None:
    while not held.service.is_draining:
        threading.Event().wait(0.005)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_under_way_is_answered_before_the_end(
    listening: socket.socket, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    before = [signal.getsignal(sig) for sig in (signal.SIGTERM, signal.SIGINT)]
    held = Held(listening)
    run(
        held,
        listening,
        lambda: os.kill(os.getpid(), number),
        lambda: drained(held),
        held.may_end.set,
    )
    assert held.answers == [(200, "whole")]
    assert [signal.getsignal(sig) for sig in (signal.SIGTERM, signal.SIGINT)] == before
    said = capsys.readouterr()
    assert f"serving mine at {held.url}" in said.out + said.err
    assert "no longer ready; what is under way is answered" in said.out + said.err


def test_a_second_signal_waits_for_nothing(listening: socket.socket) -> None:
    held = Held(listening)
    run(held, listening, terminate, lambda: drained(held), terminate)
    (answer,) = held.answers
    assert answer in ((500, ""), (0, ""))  # cut off, whether or not it is told so
    assert not held.may_end.is_set()


GET, NEXT = b"GET /ping HTTP/1.1\r\n", b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED, LONG = b"Transfer-Encoding: chunked\r\n", 3_000_000
# A request with a body that no path reads: its head, and the body.
UNREAD = {
    "with the head": (b"Host: a\r\nContent-Length: 5\r\n\r\nhello", b""),
    "after the answer": (b"Host: 10.0.0.1:8080\r\nContent-Length: 5\r\n\r\n", b"hello"),
    "long": (b"Host: x y\r\nContent-Length: %d\r\n\r\n" % LONG, b"x" * LONG),
    "chunked": (b"Host:\r\n" + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n", b""),
    "chunked later": (b"Host: a\r\n" + CHUNKED + b"\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
}


def test_a_connection_goes_on_after_a_body_that_nobody_reads(listening: socket.socket) -> None:
    """Health checks of some platforms have a body, and any Host."""
    service, found = Service(Limits()), dict[str, list[Any]]()

    def answered(client: socket.socket, request: bytes, then: bytes) -> tuple[int, bytes]:
        client.sendall(request)
        answer = HTTPResponse(client)
        answer.begin()
        own = answer.status, answer.read()[:17]
        client.sendall(then)
        return own

    def act() -> None:
        try:
            for name, (head, body) in UNREAD.items():
                with closing(socket.create_connection(listening.getsockname(), 20)) as client:
                    first = answered(client, GET + head, body)
                    found[name] = [first, answered(client, NEXT, b"")]
        finally:
            terminate()

    acting = threading.Thread(target=act)
    acting.start()
    server.run(make_app(service), service, listening, "mine")
    acting.join(20)
    assert found == dict.fromkeys(UNREAD, [(200, b""), (200, b'{"name": "regrow"')])
