"""Models are loaded, listed, asked and unloaded by requests, from below one folder."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from regrow.deploy.serving.opener import Opener
from regrow.deploy.serving.protocol import multi_model
from regrow.deploy.serving.protocol.multi_model import ModelsApi
from regrow.deploy.serving.served_model import ServedModel
from regrow.errors import BadInput

Serve = Callable[..., TestClient]
PNG = {"content-type": "image/png"}


def never(file: Path) -> Path:
    raise AssertionError(file)


@pytest.fixture
def client(serve: Serve, files: dict[str, Path]) -> TestClient:
    folder = files["labels"].parents[1]
    return serve("masks", models_api=ModelsApi(folder, Opener(never).beside))


def load(client: TestClient, name: str, url: str) -> tuple[int, str]:
    answer = client.post("/models", json={"model_name": name, "url": url})
    return answer.status_code, answer.text


def test_a_model_is_loaded_asked_and_unloaded(
    client: TestClient, files: dict[str, Path], models: dict[str, ServedModel],
    picture: Callable[..., np.ndarray], encode: Callable[..., bytes],
) -> None:  # fmt: skip
    folder, body = str(files["labels"].parent), encode(picture())
    assert load(client, "one", folder) == (200, "")
    assert load(client, "one", folder) == (
        409,
        '{"error": "the model \'one\' is loaded already"}',
    )
    assert client.get("/models/one").json() == {"modelName": "one", "modelUrl": folder}
    assert {"modelName": "one", "modelUrl": folder} in client.get("/models").json()["models"]
    answer = client.post("/models/one/invoke", content=body, headers=PNG)
    assert answer.json()["model"] == models["labels"].sha256
    assert client.post("/v2/models/one/infer", json={}).status_code == 400
    assert client.delete("/models/one").status_code == 200
    for method, path in (
        ("GET", "/models/one"),
        ("DELETE", "/models/one"),
        ("POST", "/models/one/invoke"),
    ):
        gone = client.request(method, path, content=b"x")
        assert (gone.status_code, gone.json()) == (404, {"error": "there is no model 'one'"})
    assert 'regrow_model_info{model="one"' not in client.get("/metrics").text
    assert client.post("/invocations", content=body, headers=PNG).status_code == 200


def test_models_are_listed_in_pages(
    client: TestClient, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi_model, "PAGE", 2)
    for name in ("one", "two"):
        assert load(client, name, "labels")[0] == 200
    first = client.get("/models").json()
    assert [one["modelName"] for one in first["models"]] == ["regrow", "one"]
    rest = client.get("/models", params={"next_page_token": first["nextPageToken"]}).json()
    assert [one["modelName"] for one in rest["models"]] == ["two"]
    assert "nextPageToken" not in rest
    odd = client.get("/models", params={"next_page_token": "x"})
    assert (odd.status_code, "next_page_token is 'x'" in odd.text) == (400, True)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"model_name": "a", "url": "/etc"}, "/etc: models are loaded from below"),
        ({"model_name": "a", "url": "../.."}, "../..: models are loaded from below"),
        ({"model_name": "a", "url": "nothing"}, "no such file or folder"),
        ({"model_name": "a", "url": "\0"}, "url must be the path of a model"),
        ({"model_name": "a"}, "url must be the path of a model"),
        ({"model_name": "a/b", "url": "labels"}, "model_name must be a text without a slash"),
        ({"url": "labels"}, "model_name must be a text without a slash"),
        ([], "model_name must be a text without a slash"),
    ],
)
def test_what_cannot_be_loaded(client: TestClient, body: object, said: str) -> None:
    answer = client.post("/models", content=json.dumps(body))
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert [one["modelName"] for one in client.get("/models").json()["models"]] == ["regrow"]


@pytest.mark.parametrize(
    "error", [MemoryError("all gone"), BadInput("x: ONNX Runtime cannot allocate memory")]
)
def test_a_model_that_does_not_fit_is_507(serve: Serve, tmp_path: Path, error: Exception) -> None:
    def load_nothing(path: Path) -> ServedModel:
        raise error

    client = serve(models_api=ModelsApi(tmp_path, load_nothing))
    status, text = load(client, "a", "x")
    assert status == 507
    assert "too little memory for the model" in text
