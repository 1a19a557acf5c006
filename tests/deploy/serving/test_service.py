"""Requests are bounded in number, bytes and time, and those that are given up cost nothing."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from regrow.deploy.serving.app import make_app
from regrow.deploy.serving.observing import Exchange
from regrow.deploy.serving.served_model import ServedModel
from regrow.deploy.serving.service import Limits, Service
from regrow.deploy.session import Outputs

Serve = Callable[..., TestClient]
Picture = Callable[..., np.ndarray]
Encode = Callable[..., bytes]
PNG = {"content-type": "image/png"}


class Held:
    """A model that waits until it may go on."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self.may_run, self.begun = threading.Event(), threading.Event()
        self.num_runs = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run(self, images: np.ndarray, names: Sequence[str] | None = None) -> Outputs:
        self.num_runs += 1
        self.begun.set()
        assert self.may_run.wait(30)
        return self._model.run(images, names)


class Client:
    """One request to an application, by hand, so that it can leave."""

    def __init__(
        self, app: Any, body: bytes, path: str = "/invocations", method: str = "POST"
    ) -> None:
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._events.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.status, self.body = 0, b""
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(),
            "query_string": b"", "headers": [(b"content-type", b"image/png")],
            "server": ("x", 80), "client": ("y", 1), "scheme": "http", "root_path": "",
            "http_version": "1.1", "asgi": {"version": "3.0"},
        }  # fmt: skip
        self.task = asyncio.create_task(app(scope, self._events.get, self._send))

    async def _send(self, message: dict[str, Any]) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")

    def leave(self) -> None:
        self._events.put_nowait({"type": "http.disconnect"})


@asynccontextmanager
async def serving(model: Any, limits: Limits) -> AsyncIterator[tuple[Service, Any]]:
    service = Service(limits)
    service.host.put("regrow", model)
    try:
        yield service, make_app(service)
    finally:
        model.may_run.set()
        await service.close()


async def until(is_met: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_met():
            await asyncio.sleep(0.005)


def test_clients_that_leave_cost_nothing(
    models: dict[str, ServedModel], picture: Picture, encode: Encode
) -> None:
    held, body = Held(models["labels"]), encode(picture())

    async def check() -> None:
        async with serving(held, Limits(max_requests=300)) as (service, app):
            runner = service.host.entries["regrow"].runner
            first = Client(app, body)
            await until(held.begun.is_set)
            leaving = [Client(app, body) for _ in range(200)]
            last = Client(app, body)
            await until(lambda: runner.num_waiting > 100)
            for client in leaving:
                client.leave()
            await asyncio.gather(*[client.task for client in leaving])
            assert {client.status for client in leaving} == {499}
            await until(lambda: runner.num_waiting == 1)
            held.may_run.set()
            await asyncio.gather(first.task, last.task)
            assert (first.status, last.status) == (200, 200)
            assert first.body == last.body
            assert held.num_runs == 2
            assert service.host.entries["regrow"].num_uses == 0
            text = service.metrics.text().decode()
            assert "regrow_pending_request_count 0.0" in text
            assert 'request_failure_total{model="regrow",reason="CANCELED"} 200.0' in text

    asyncio.run(check())


def test_more_requests_than_may_wait_are_told_to_come_again(
    models: dict[str, ServedModel], picture: Picture, encode: Encode
) -> None:
    held, body = Held(models["labels"]), encode(picture())

    async def check() -> None:
        async with serving(held, Limits(max_requests=2)) as (service, app):
            taken = [Client(app, body) for _ in range(2)]
            await until(held.begun.is_set)
            refused = Client(app, body)
            await refused.task
            assert refused.status == 503
            assert b"2 requests are under way; try again" in refused.body
            held.may_run.set()
            await asyncio.gather(*[client.task for client in taken])
            assert [client.status for client in taken] == [200, 200]
            again = Client(app, body)
            await again.task
            assert again.status == 200
            assert b'reason="REJECTED"} 1.0' in service.metrics.text()

    asyncio.run(check())


def test_a_request_that_takes_too_long_is_given_up(
    models: dict[str, ServedModel], picture: Picture, encode: Encode
) -> None:
    held, body = Held(models["labels"]), encode(picture())

    async def check() -> None:
        async with serving(held, Limits(seconds=0.3)) as (service, app):
            first, second = Client(app, body), Client(app, body)
            await asyncio.gather(first.task, second.task)
            assert (first.status, second.status) == (503, 503)
            assert b"seconds; try again later" in first.body
            assert service.host.entries["regrow"].runner.num_waiting == 0

    asyncio.run(check())


def test_health_answers_while_all_threads_are_busy(
    models: dict[str, ServedModel], picture: Picture, encode: Encode
) -> None:
    held, body = Held(models["labels"]), encode(picture())

    async def check() -> None:
        async with serving(held, Limits(num_decoders=1)) as (service, app):
            may_end = threading.Event()
            service.pool.submit(may_end.wait, 30)
            waiting = Client(app, body)
            answer = Client(app, b"", "/ping", "GET")
            await asyncio.wait_for(answer.task, 10)
            assert answer.status == 200
            assert not waiting.task.done()
            may_end.set()
            held.may_run.set()
            await waiting.task
            assert waiting.status == 200

    asyncio.run(check())


def test_a_body_that_is_too_long_is_refused_before_it_is_read(serve: Serve) -> None:
    client = serve(limits=Limits(max_body=5000))
    for headers in (PNG | {"content-length": "5001"}, PNG | {"content-length": "9" * 40}):
        answer = client.post("/invocations", content=b"", headers=headers)
        assert answer.status_code == 413
        assert "and 5,000 are the limit; send a JPEG" in answer.json()["error"]
        assert answer.headers["connection"] == "close"
    answer = client.post("/invocations", content=iter([b"x" * 3000] * 2), headers=PNG)
    assert answer.status_code == 413
    assert "the body has more, and 5,000" in answer.json()["error"]


def test_a_fault_of_ours_is_one_line_and_logged(
    models: dict[str, ServedModel], serve: Serve, picture: Picture, encode: Encode,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    class Broken(Held):
        def run(self, images: np.ndarray, names: Sequence[str] | None = None) -> Outputs:
            raise ZeroDivisionError("of the model")

    client = serve()
    client.service.host.put("regrow", Broken(models["labels"]))  # type: ignore[attr-defined]
    answer = client.post("/invocations", content=encode(picture()), headers=PNG)
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server failed; its log says why"}
    assert "a request failed (of the model)" in capsys.readouterr().err


def test_an_observer_sees_what_was_asked_and_answered(
    serve: Serve, picture: Picture, encode: Encode, models: dict[str, ServedModel]
) -> None:
    exchanges: list[Exchange] = []
    client = serve(observer=exchanges.append)
    body, before = encode(picture()), time.time()
    headers = PNG | {
        "x-amzn-sagemaker-inference-id": "cam3-17",
        "x-amzn-sagemaker-custom-attributes": "camera=3;site=north",
    }
    answer = client.post("/invocations", content=body, headers=headers)
    client.post("/invocations", content=b"no picture", headers=headers)
    client.service.observing.close()  # type: ignore[attr-defined]
    (seen,) = exchanges
    assert seen.event_id == answer.headers["x-regrow-event-id"]
    assert (seen.inference_id, seen.custom_attributes) == ("cam3-17", "camera=3;site=north")
    assert (seen.request_type, seen.request_body) == ("image/png", body)
    assert (seen.response_type, seen.response_body) == ("application/json", answer.content)
    assert (seen.model, seen.sha256) == ("regrow", models["labels"].sha256)
    assert before <= seen.time <= time.time()


def test_an_observer_is_told_what_a_body_was_taken_for(
    serve: Serve, picture: Picture, encode: Encode
) -> None:
    """So that a capture can be sent again, whatever the client said of it."""
    exchanges: list[Exchange] = []
    client = serve(observer=exchanges.append)
    text = base64.b64encode(encode(picture())).decode()
    tensor = {"name": "images", "shape": [1], "datatype": "BYTES", "data": [text]}
    asked = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    path, form = "/v2/models/regrow/infer", {"content-type": "application/x-www-form-urlencoded"}
    binary = {"inference-header-content-length": "0"}
    answers = [
        client.post(path, content=asked, headers=form),
        client.post(path, content=asked, headers={"content-type": "application/json; charset=x"}),
        client.post(path, content=encode(picture()), headers=form | binary),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    client.service.observing.close()  # type: ignore[attr-defined]
    kind = "application/vnd.sagemaker-triton.binary+json;json-header-size="
    assert [seen.request_type for seen in exchanges] == [
        "application/json",
        "application/json; charset=x",
        f"{kind}0",
    ]
    lengths = [answer.headers["inference-header-content-length"] for answer in answers]
    assert [seen.response_type for seen in exchanges] == [f"{kind}{length}" for length in lengths]
