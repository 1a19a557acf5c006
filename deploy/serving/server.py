"""The process of a server: its socket, the signals that end it, and uvicorn between the two."""

import asyncio
import errno
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import uvicorn
from starlette.types import ASGIApp

from regrow.deploy.serving.service import Service
from regrow.errors import BadInput
from regrow.logs import log

# SageMaker kills a container 30 seconds after SIGTERM.
DRAIN, GRACE = 1.0, 20
KEEP_ALIVE = 75  # seconds; longer than load balancers keep a connection
BACKLOG, MAX_CONNECTIONS = 2048, 1000


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; clients wait until a server runs there.

    Args:
        host: The name or address.
        port: The port; 0 takes a free one.

    Raises:
        BadInput: If it cannot be had.
    """
    if not 0 <= port <= 65535:
        raise BadInput(f"port is {port}, it must be 0 to 65535")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as failed:
            made = failed.enter_context(socket.socket(family, kind, proto))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            # Bound sockets that reuse addresses meet no other before they listen.
            made.listen(BACKLOG)
            failed.pop_all()
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise BadInput(
                f"port {port} of {host} is in use; give another one with --port, or --port 0 for a "
                "free one"
            ) from error
        said = getattr(error, "strerror", None) or error
        raise BadInput(f"host {host}, port {port}: cannot be served at ({said})") from error
    return made


def address_of(made: socket.socket) -> str:
    """Return the address of a socket as one types it."""
    host, port = made.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: ASGIApp, service: Service, listening: socket.socket, name: str) -> None:
    """Serve until SIGTERM or Ctrl-C, and return when what was under way is answered.

    Health turns to 503 first, and requests are still taken for a moment, while a load balancer
    learns of it. A second signal ends at once.

    Args:
        app: The application.
        service: Its service.
        listening: The socket.
        name: The name of the model, for the line that says that it is served.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        loop="asyncio",
        http="h11",
        backlog=BACKLOG,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    asyncio.run(_Server(config, service, listening, name).serve([listening]))


class _Server(uvicorn.Server):
    """Uvicorn's server, which says when it is ready, and leaves signals to us.

    Uvicorn raises a signal again after it has ended well, and then the exit code is not 0.
    """

    def __init__(
        self, config: uvicorn.Config, service: Service, listening: socket.socket, name: str
    ) -> None:
        super().__init__(config)
        self._service, self._address, self._name = service, address_of(listening), name

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End well at SIGTERM and Ctrl-C."""
        loop = asyncio.get_running_loop()
        before = {sig: signal.getsignal(sig) for sig in (signal.SIGTERM, signal.SIGINT)}
        for sig in before:
            loop.add_signal_handler(sig, self._drain)
        try:
            yield
        finally:
            for sig, handler in before.items():
                loop.remove_signal_handler(sig)
                signal.signal(sig, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started:
            log.info(f"serving {self._name} at {self._address}")

    def _drain(self) -> None:
        if self._service.is_draining:
            self.should_exit = self.force_exit = True
            return
        self._service.is_draining = True
        log.info("no longer ready; what is under way is answered")
        asyncio.get_running_loop().call_later(DRAIN, self._end)

    def _end(self) -> None:
        self.should_exit = True
