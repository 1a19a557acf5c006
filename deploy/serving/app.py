"""The application: the paths of SageMaker, of the Open Inference Protocol V2, and of people."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regrow.deploy.serving.host import Entry
from regrow.deploy.serving.protocol.multi_model import ModelsApi
from regrow.deploy.serving.service import JSON, Service, refused
from regrow.logs import log

PLATFORM = "onnx_onnxv1"
EXTENSIONS = ["binary_tensor_data"]
Background = Callable[[], Coroutine[Any, Any, None]]
# Scripts and styles of the page are its own, and it asks nobody but this server.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'; form-action 'none'; base-uri 'none'"
)


def make_app(
    service: Service,
    name: str = "regrow",
    *,
    version: str = "",
    models_api: ModelsApi | None = None,
    fixed: Mapping[str, Any] = MappingProxyType({}),
    background: Sequence[Background] = (),
) -> ASGIApp:
    """Return the application of a service.

    Args:
        service: The service, whose threads end with the application.
        name: The model that `/ping` and `/invocations` mean.
        version: The version of the server.
        models_api: Loads and unloads further models below `/models`; None leaves that out.
        fixed: Further paths that always answer the same, as JSON.
        background: What runs beside the requests until the application ends.
    """
    paths = _Paths(service, name, version)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work()) for work in background]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await service.close()

    model, versioned = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
    routes = [
        Route("/", paths.page, methods=["GET"]),
        Route("/ping", paths.ready, methods=["GET"]),
        Route("/invocations", paths.invocations, methods=["POST"]),
        Route("/metrics", paths.metrics, methods=["GET"]),
        Route("/v2", paths.server, methods=["GET"]),
        Route("/v2/health/live", paths.live, methods=["GET"]),
        Route("/v2/health/ready", paths.ready, methods=["GET"]),
        *(
            Route(f"{base}{path}", endpoint, methods=[method])
            for base in (model, versioned)
            for path, endpoint, method in (
                ("", paths.model, "GET"),
                ("/ready", paths.model_ready, "GET"),
                ("/infer", paths.infer, "POST"),
            )
        ),
        *(Route(path, _answering(value), methods=["GET"]) for path, value in fixed.items()),
        *(models_api.routes(service) if models_api is not None else ()),
    ]
    app = Starlette(
        routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _of_starlette}
    )
    app.router.redirect_slashes = False
    return _Counted(app, service)


class _Counted:
    """The application, whose responses are counted by status, and which never shows a fault."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._codes = app, service.metrics.codes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_begun = False

        async def counting(message: Message) -> None:
            nonlocal is_begun
            if message["type"] == "http.response.start":
                is_begun = True
                self._codes.labels(str(message["status"])).inc()
            await send(message)

        try:
            await self._app(scope, receive, counting)
        except Exception as error:  # of Starlette itself, at odd paths and headers
            log.error("a request failed outside of its endpoint", exc_info=error)
            if not is_begun:
                answer = refused(500, "the server failed; its log says why")
                await answer(scope, receive, counting)


class _Paths:
    """The endpoints; those of health touch no thread."""

    def __init__(self, service: Service, name: str, version: str) -> None:
        self._service, self._name, self._version = service, name, version
        self._page = files("regrow.deploy.serving").joinpath("page.html").read_text("utf-8")

    async def page(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers={"content-security-policy": POLICY})

    async def live(self, request: Request) -> Response:
        return Response(status_code=200)

    async def ready(self, request: Request) -> Response:
        if self._service.is_draining:
            return refused(503, "the server is about to end")
        return Response(status_code=200)

    async def metrics(self, request: Request) -> Response:
        return Response(self._service.metrics.text(), media_type="text/plain; version=0.0.4")

    async def invocations(self, request: Request) -> Response:
        return await self._service.invoke(request, self._name)

    async def server(self, request: Request) -> Response:
        return _json({"name": "regrow", "version": self._version, "extensions": EXTENSIONS})

    async def model(self, request: Request) -> Response:
        entry = self._entry(request)
        if entry is None:
            return _unknown(request)
        model = entry.model
        return _json(
            {
                "name": entry.name,
                "versions": [model.sha256],
                "platform": PLATFORM,
                "inputs": model.tensors("inputs"),
                "outputs": model.tensors("outputs"),
                "parameters": {"kind": model.kind, "classes": model.classes},
            }
        )

    async def model_ready(self, request: Request) -> Response:
        return _unknown(request) if self._entry(request) is None else await self.ready(request)

    async def infer(self, request: Request) -> Response:
        entry = self._entry(request)
        if entry is None:
            return _unknown(request)
        return await self._service.infer(request, entry.name)

    def _entry(self, request: Request) -> Entry | None:
        """Return the model of a path; None where there is none of that name and version."""
        entry = self._service.host.entries.get(request.path_params["model"])
        version = request.path_params.get("version")
        if entry is None or version not in (None, "1", entry.model.sha256):
            return None
        return entry


def _answering(value: Any) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """Return an endpoint that always answers the same."""

    async def answer(request: Request) -> Response:
        return _json(value)

    return answer


def _unknown(request: Request) -> Response:
    version = request.path_params.get("version")
    of_version = f" of version {version[:100]!r}" if version is not None else ""
    return refused(404, f"there is no model {request.path_params['model'][:100]!r}{of_version}")


async def _of_starlette(request: Request, error: Exception) -> Response:
    """Answer what no path is for, in the one form that errors have."""
    assert isinstance(error, HTTPException)
    status, path = error.status_code, request.url.path[:200]
    said = {
        404: f"there is no path {path!r}",
        405: f"{path!r} is not for {request.method[:20]}",
    }
    return refused(status, said.get(status, error.detail), dict(error.headers or {}))


def _json(value: Any) -> Response:
    return Response(json.dumps(value), media_type=JSON)
