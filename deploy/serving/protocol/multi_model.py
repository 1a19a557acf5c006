"""Further models, loaded and unloaded by requests, as SageMaker's multi-model endpoints do it.

Source: the developer guide of SageMaker, "Contract for custom containers to serve multi-model
endpoints".
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from regrow.deploy.serving.bodies import Refused, read_body
from regrow.deploy.serving.host import Entry
from regrow.deploy.serving.served_model import ServedModel
from regrow.deploy.serving.service import JSON, Service, refused
from regrow.errors import BadInput
from regrow.files import one_line
from regrow.plain import parse_json

MAX_BODY, LONGEST_NAME, PAGE = 2**16, 1000, 100


class ModelsApi:
    """The paths below `/models`.

    Args:
        folder: Models are loaded from below this folder only.
        load: Returns the model of a path.
    """

    def __init__(self, folder: Path, load: Callable[[Path], ServedModel]) -> None:
        self._folder, self._load = folder.resolve(), load
        self._loading: set[str] = set()
        self._turn = asyncio.Lock()  # one at a time: each takes memory that the next one must see

    def routes(self, service: Service) -> list[Route]:
        """Return the routes for a service."""

        async def load(request: Request) -> Response:
            return await self._answer(self._loaded(request, service))

        async def listed(request: Request) -> Response:
            return await self._answer(self._listed(request, service))

        async def shown(request: Request) -> Response:
            entry = service.host.entries.get(request.path_params["model"])
            return _unknown(request) if entry is None else _json(_told(entry))

        async def unload(request: Request) -> Response:
            if request.path_params["model"] not in service.host.entries:
                return _unknown(request)
            await service.host.remove(request.path_params["model"])
            return Response(status_code=200)

        async def invoke(request: Request) -> Response:
            return await service.invoke(request, request.path_params["model"])

        return [
            Route("/models", load, methods=["POST"]),
            Route("/models", listed, methods=["GET"]),
            Route("/models/{model}", shown, methods=["GET"]),
            Route("/models/{model}", unload, methods=["DELETE"]),
            Route("/models/{model}/invoke", invoke, methods=["POST"]),
        ]

    async def _answer(self, work: Any) -> Response:
        try:
            found: Response = await work
            return found
        except Refused as error:
            return refused(error.status, str(error), error.headers)
        except ClientDisconnect:
            return refused(499, "the client left")
        except BadInput as error:
            return refused(400, str(error))
        except MemoryError as error:
            return refused(507, f"too little memory for the model ({one_line(error)})")

    async def _loaded(self, request: Request, service: Service) -> Response:
        name, path = self._asked(await read_body(request, MAX_BODY))
        if name in service.host.entries or name in self._loading:
            raise Refused(409, f"the model {name[:100]!r} is loaded already")
        self._loading.add(name)
        try:
            async with self._turn:
                model = await asyncio.to_thread(self._load, path)
                service.host.put(name, model, str(path))
        except BadInput as error:
            if "allocate memory" in str(error):  # how ONNX Runtime says it
                raise MemoryError(str(error)) from error
            raise
        finally:
            self._loading.discard(name)
        return Response(status_code=200)

    def _asked(self, body: bytes) -> tuple[str, Path]:
        """Return the name and the path in the body of a request to load a model."""
        value = parse_json(body.decode("utf-8", "replace"), "the body")
        told = value if isinstance(value, dict) else {}
        name, url = told.get("model_name"), told.get("url")
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or "/" in name:
            raise BadInput("model_name must be a text without a slash")
        if not isinstance(url, str) or not url or "\0" in url:
            raise BadInput("url must be the path of a model")
        path = (self._folder / url.removeprefix("file://")).resolve()
        if not path.is_relative_to(self._folder):
            raise BadInput(f"{url[:200]}: models are loaded from below {self._folder} only")
        return name, path

    async def _listed(self, request: Request, service: Service) -> Response:
        token = request.query_params.get("next_page_token", "0")
        if not (token.isascii() and token.isdigit()) or len(token) > 9:
            raise BadInput(f"next_page_token is {token[:100]!r}, which no answer gave")
        start = int(token)
        entries = list(service.host.entries.values())
        told: dict[str, Any] = {"models": [_told(e) for e in entries[start : start + PAGE]]}
        if len(entries) > start + PAGE:
            told["nextPageToken"] = str(start + PAGE)
        return _json(told)


def _told(entry: Entry) -> dict[str, str]:
    return {"modelName": entry.name, "modelUrl": entry.url}


def _unknown(request: Request) -> Response:
    return refused(404, f"there is no model {request.path_params['model'][:100]!r}")


def _json(value: Any) -> Response:
    return Response(json.dumps(value), media_type=JSON)
