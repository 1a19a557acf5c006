"""A server of one model in a thread of this process, at a port of its own."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from regrow.deploy.serving.app import make_app
from regrow.deploy.serving.served_model import ServedModel
from regrow.deploy.serving.service import Service


@contextmanager
def served(model: ServedModel, observer: Any = None) -> Iterator[str]:
    """Serve a model until the context ends, and yield the address."""
    service = Service(observer=observer)
    server: list[uvicorn.Server] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        async def run() -> None:
            service.host.put("regrow", model)
            app = make_app(service)
            server.append(uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none")))
            await server[0].serve([listening])

        thread = threading.Thread(target=lambda: asyncio.run(run()))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server[0].should_exit = True
            thread.join()
