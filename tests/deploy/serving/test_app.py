"""The paths of a server answer as the protocols say, and never with a fault."""

import base64
import io
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from regrow.data.images.transforms import small_image
from regrow.deploy.runtime import detections
from regrow.deploy.serving.served_model import ServedModel
from regrow.models.task import Task

Serve = Callable[..., TestClient]
Picture = Callable[..., np.ndarray]
Encode = Callable[..., bytes]
PNG = {"content-type": "image/png"}


def seen(task: Task, pixels: np.ndarray) -> Any:
    """Return what a network predicts for a picture, by torch."""
    with torch.no_grad():
        return task.predict(task(small_image(pixels, task.size)[None]))[0]


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_health_and_server_metadata(serve: Serve) -> None:
    client = serve()
    for path in ("/ping", "/v2/health/live", "/v2/health/ready", "/v2/models/regrow/ready"):
        answer = client.get(path)
        assert (answer.status_code, answer.content) == (200, b""), path
    assert client.get("/v2").json() == {
        "name": "regrow",
        "version": "1",
        "extensions": ["binary_tensor_data"],
    }
    client.service.is_draining = True
    assert client.get("/ping").status_code == client.get("/v2/health/ready").status_code == 503
    assert client.get("/v2/health/live").status_code == 200


def test_a_picture_is_classified(
    serve: Serve, tasks: dict[str, Task], models: dict[str, ServedModel], picture: Picture,
    encode: Encode,
) -> None:  # fmt: skip
    answer = serve().post("/invocations", content=encode(picture()), headers=PNG)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    value = answer.json()
    assert value["model"] == models["labels"].sha256
    (found,) = value["predictions"]
    wanted = seen(tasks["labels"], picture())
    assert list(found["scores"]) == tasks["labels"].classes
    np.testing.assert_allclose(list(found["scores"].values()), wanted, atol=1e-5)
    assert found["label"] == tasks["labels"].classes[int(wanted.argmax())]
    assert found["score"] == max(found["scores"].values())


def test_boxes_are_in_pixels_of_the_picture_that_was_sent(
    serve: Serve, tasks: dict[str, Task], picture: Picture, encode: Encode
) -> None:
    pixels = picture(size=(128, 288))  # twice as high, three times as wide as the network's
    (found,) = (serve("boxes").post("/invocations", content=encode(pixels), headers=PNG).json())[
        "predictions"
    ]
    wanted = seen(tasks["boxes"], pixels)
    assert len(found["objects"]) == len(wanted["scores"]) > 3
    scores = [one["score"] for one in found["objects"]]
    assert scores == sorted(scores, reverse=True)
    np.testing.assert_allclose(sorted(scores), sorted(wanted["scores"].tolist()), atol=1e-4)
    boxes = np.array([one["box"] for one in found["objects"]])
    expected = wanted["boxes"].numpy() * [3, 2, 3, 2]
    for box, one in zip(boxes, found["objects"], strict=True):
        close = np.abs(expected - box).max(1) < 0.05
        labels = wanted["labels"].numpy()[close]
        assert tasks["boxes"].classes.index(one["label"]) in labels


def test_a_mask_has_the_size_of_the_picture(
    serve: Serve, tasks: dict[str, Task], picture: Picture, encode: Encode
) -> None:
    pixels = picture(size=(128, 288))
    (found,) = (serve("masks").post("/invocations", content=encode(pixels), headers=PNG).json())[
        "predictions"
    ]
    with Image.open(io.BytesIO(base64.b64decode(found["mask"]))) as opened:
        assert opened.format == "PNG"
        mask = np.asarray(opened)
    wanted = seen(tasks["masks"], pixels).numpy()
    assert np.array_equal(mask, wanted.repeat(2, axis=0).repeat(3, axis=1))
    assert found["classes"] == tasks["masks"].classes
    shares = [float((mask == n).mean()) for n in range(3)]
    assert found["shares"] == dict(zip(found["classes"], shares, strict=True))


def test_a_client_may_ask_for_run_lengths_of_masks(
    serve: Serve, picture: Picture, encode: Encode
) -> None:
    accepting = PNG | {"accept": "application/json; masks=rle"}
    client, body = serve("masks"), encode(picture())
    answer = client.post("/invocations", content=body, headers=accepting)
    # What is captured says so: who sends it again accepts what was answered.
    assert answer.headers["content-type"] == "application/json;masks=rle"
    (found,) = answer.json()["predictions"]
    assert {*found} == {"masks", "classes", "shares"}
    assert {one["size"] == [80, 120] and sum(one["counts"]) == 80 * 120
            for one in found["masks"].values()} == {True}  # fmt: skip
    odd = client.post("/invocations", content=body, headers=PNG | {"accept": "masks=svg"})
    assert (odd.status_code, "they are png or rle" in odd.text) == (400, True)
    plain = serve("labels").post("/invocations", content=body, headers=accepting)
    assert plain.headers["content-type"] == "application/json"


@pytest.mark.parametrize("kind", ["labels", "boxes", "masks"])
def test_every_body_of_a_picture_has_the_same_answer(
    serve: Serve, picture: Picture, encode: Encode, kind: str
) -> None:
    client, pixels = serve(kind), picture()
    png = encode(pixels)
    wanted = client.post("/invocations", content=png, headers=PNG).json()
    instances = {"instances": [{"b64": base64.b64encode(png).decode()}]}
    bodies = {
        "image/webp": encode(pixels, "WEBP", lossless=True),
        "application/x-npy": saved(pixels),
        "application/json": json.dumps(instances).encode(),
        "application/octet-stream": png,
        "image/jpeg; charset=x": png,  # told by its bytes
    }
    for name, body in bodies.items():
        assert client.post("/invocations", content=body, headers={"content-type": name}).json() == (
            wanted
        ), name
    batch = client.post(
        "/invocations",
        content=saved(np.asfortranarray(np.stack([pixels] * 3))),
        headers={"content-type": "application/x-npy"},
    ).json()
    assert len(batch["predictions"]) == 3
    if kind != "boxes":  # whose scores depend on the batch in the last bits
        assert batch["predictions"][2].keys() == wanted["predictions"][0].keys()


def request(pixels: np.ndarray, **more: Any) -> dict[str, Any]:
    images = pixels.transpose(2, 0, 1)[None]
    tensor = {
        "name": "images",
        "shape": list(images.shape),
        "datatype": "UINT8",
        "data": images.ravel().tolist(),
    }
    return {"inputs": [tensor], **more}


def test_v2_answers_tensors_and_echoes_the_id(
    serve: Serve, models: dict[str, ServedModel], picture: Picture
) -> None:
    client, model, pixels = serve(), models["labels"], picture(size=(64, 96))
    body = request(pixels, id="42", outputs=[{"name": "probabilities"}])
    value = client.post("/v2/models/regrow/infer", json=body).json()
    assert (value["model_name"], value["model_version"], value["id"]) == (
        "regrow",
        model.sha256,
        "42",
    )
    (output,) = value["outputs"]
    (wanted,) = model.run(pixels.transpose(2, 0, 1)[None]).values()
    assert (output["name"], output["datatype"], output["shape"]) == (
        "probabilities",
        "FP32",
        [1, 3],
    )
    assert np.array_equal(np.float32(output["data"]), wanted[0])
    nested = request(pixels)
    nested["inputs"][0]["data"] = pixels.transpose(2, 0, 1)[None].tolist()
    for path in ("/v2/models/regrow/versions/1/infer", "/invocations"):
        again = client.post(path, json=nested).json()
        assert again["outputs"] == value["outputs"]
        assert "id" not in again


def binary(head: dict[str, Any], tail: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return text + tail, {
        "Inference-Header-Content-Length": str(len(text)),
        "content-type": "application/octet-stream",
    }


def test_v2_takes_and_gives_bytes(
    serve: Serve, models: dict[str, ServedModel], picture: Picture
) -> None:
    client, pixels = serve("boxes"), picture(size=(64, 96))
    images = np.ascontiguousarray(np.stack([pixels, pixels[::-1]]).transpose(0, 3, 1, 2))
    tensor = {
        "name": "images",
        "shape": list(images.shape),
        "datatype": "UINT8",
        "parameters": {"binary_data_size": images.nbytes},
    }
    head = {
        "inputs": [tensor],
        "outputs": [
            {"name": "boxes", "parameters": {"binary_data": True}},
            {"name": "selected", "parameters": {"binary_data": True}},
            {"name": "scores"},
        ],
    }
    body, headers = binary(head, images.tobytes())
    answer = client.post("/v2/models/regrow/infer", content=body, headers=headers)
    length = int(answer.headers["inference-header-content-length"])
    told = json.loads(answer.content[:length])
    boxes, selected, scores = told["outputs"]
    size = boxes["parameters"]["binary_data_size"]
    outputs = models["boxes"].run(images)
    tail = answer.content[length:]
    assert tail[:size] == outputs["boxes"].tobytes()
    assert tail[size:] == outputs["selected"].tobytes()
    assert len(tail) == size + selected["parameters"]["binary_data_size"]
    assert np.array_equal(np.float32(scores["data"]), outputs["scores"].ravel())
    # SageMaker passes on no header of V2: there the content type says how long the head is.
    kind = "application/vnd.sagemaker-triton.binary+json"
    typed = {
        "content-type": f"{kind};json-header-size={headers['Inference-Header-Content-Length']}"
    }
    again = client.post("/invocations", content=body, headers=typed)
    assert again.content == answer.content
    assert again.headers["content-type"] == f"{kind};json-header-size={length}"
    assert answer.headers["content-type"] == "application/octet-stream"


def test_v2_takes_encoded_pictures(
    serve: Serve, models: dict[str, ServedModel], picture: Picture, encode: Encode
) -> None:
    client, contents = serve(), [encode(picture(n)) for n in range(2)]
    tail = b"".join(struct.pack("<I", len(content)) + content for content in contents)
    tensor: dict[str, Any] = {"name": "images", "shape": [2], "datatype": "BYTES"}
    sized = {**tensor, "parameters": {"binary_data_size": len(tail)}}
    body, headers = binary({"inputs": [sized]}, tail)
    found = client.post("/v2/models/regrow/infer", content=body, headers=headers).json()
    images = [small_image(picture(n), (64, 96)).numpy() for n in range(2)]
    (wanted,) = models["labels"].run(np.stack(images)).values()
    np.testing.assert_allclose(found["outputs"][0]["data"], wanted.ravel(), rtol=1e-5)
    texts = [base64.b64encode(content).decode() for content in contents]
    plain = {"inputs": [{**tensor, "shape": [2, 1], "data": [[texts[0]], [texts[1]]]}]}
    assert client.post("/v2/models/regrow/infer", json=plain).json() == found
    raw = client.post(
        "/v2/models/regrow/infer",
        content=contents[1],
        headers={"Inference-Header-Content-Length": "0"},
    )
    values = np.frombuffer(raw.content[-12:], "<f4")
    np.testing.assert_allclose(values, wanted[1], rtol=1e-5)


def test_v2_describes_the_model(serve: Serve, models: dict[str, ServedModel]) -> None:
    value = serve("boxes").get("/v2/models/regrow").json()
    assert value["name"] == "regrow"
    assert value["versions"] == [models["boxes"].sha256]
    assert value["platform"] == "onnx_onnxv1"
    assert value["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 3, 64, 96]}]
    selected = next(one for one in value["outputs"] if one["name"] == "selected")
    assert selected == {"name": "selected", "datatype": "INT64", "shape": [-1, 3]}
    assert (
        serve("labels float32").get("/v2/models/regrow").json()["inputs"][0]["datatype"] == "FP32"
    )


def test_a_graph_of_floats_gets_floats(
    serve: Serve, picture: Picture, encode: Encode, tasks: dict[str, Task]
) -> None:
    client, pixels = serve("labels float32"), picture(size=(64, 96))
    found = client.post("/invocations", content=encode(pixels), headers=PNG).json()
    wanted = seen(tasks["labels"], pixels)
    np.testing.assert_allclose(list(found["predictions"][0]["scores"].values()), wanted, atol=1e-5)
    body = request(pixels)
    body["inputs"][0] |= {
        "datatype": "FP32",
        "data": (pixels.transpose(2, 0, 1) / 255).ravel().tolist(),
    }
    answer = client.post("/v2/models/regrow/infer", json=body).json()
    np.testing.assert_allclose(answer["outputs"][0]["data"], wanted, atol=1e-5)


def test_detections_of_a_batch_are_those_of_each_picture(
    serve: Serve, models: dict[str, ServedModel], picture: Picture
) -> None:
    """Nine images through a server that runs four at once."""
    images = np.stack([picture(n, (64, 96)).transpose(2, 0, 1) for n in range(9)])
    tensor = {
        "name": "images",
        "shape": list(images.shape),
        "datatype": "UINT8",
        "parameters": {"binary_data_size": images.nbytes},
    }
    head = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    body, headers = binary(head, np.ascontiguousarray(images).tobytes())
    answer = serve("boxes").post("/v2/models/regrow/infer", content=body, headers=headers)
    length = int(answer.headers["inference-header-content-length"])
    place, outputs = length, {}
    for told in json.loads(answer.content[:length])["outputs"]:
        size = told["parameters"]["binary_data_size"]
        dtype = {"FP32": "<f4", "INT64": "<i8"}[told["datatype"]]
        values = np.frombuffer(answer.content[place : place + size], dtype)
        outputs[told["name"]] = values.reshape(told["shape"])
        place += size
    found = detections(outputs)
    assert len(found) == 9
    for own, image in zip(found, images, strict=True):
        (alone,) = detections(models["boxes"].run(image[None]))
        assert len(own["scores"]) == len(alone["scores"]) > 0
        np.testing.assert_allclose(own["scores"], alone["scores"], rtol=1e-4)


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (b"", PNG, 400, "the body is empty"),
        (b"no picture", PNG, 400, "the picture: corrupt or truncated (none of JPEG"),
        (b"a,b", {"content-type": "text/csv"}, 415, "no body of type 'text/csv' is read"),
        (b"[1]", {"content-type": "application/json"}, 400, "the body holds a list"),
        (b"{", {"content-type": "application/json"}, 400, "the body: not JSON"),
        (b"\xff", {"content-type": "application/json"}, 400, "the body is no UTF-8"),
        (b"{}", {"content-type": "application/json"}, 400, "/invocations also takes `instances`"),
        (b'{"instances": 3}', {"content-type": "application/json"}, 400, "instances must be"),
        (b'{"instances": []}', {"content-type": "application/json"}, 400, "0 images in one"),
        (
            b'{"instances": [{"b64": "?"}]}',
            {"content-type": "application/json"},
            400,
            "must be a text in base64",
        ),
        (b"x" * 20, {"content-type": "application/x-npy"}, 400, "the body is no NumPy file"),
        (b"x", {"Inference-Header-Content-Length": "9"}, 400, "is 9, more than 1 of the body"),
        (b"x", {"Inference-Header-Content-Length": "-1"}, 400, "it is a number of bytes"),
    ],
)
def test_bodies_that_cannot_be_used(
    serve: Serve, body: bytes, headers: dict[str, str], status: int, said: str
) -> None:
    answer = serve().post("/invocations", content=body, headers=headers)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


ODD_TENSORS: list[tuple[dict[str, Any], str]] = [
    ({"name": "x"}, "there is no input 'x'"),
    ({"shape": [1, 3, 64]}, r"shape is [1, 3, 64]; it must be [n, 3, 64, 96]"),
    ({"shape": "1"}, "shape is '1'; it is a list of whole numbers"),
    ({"shape": [True, 3, 64, 96]}, "it is a list of whole numbers"),
    ({"shape": [-1, 3, 64, 96]}, "-1 images in one request"),
    ({"shape": [65, 3, 64, 96]}, "65 images in one request; send 1 to 64"),
    ({"shape": [2, 3, 64, 96]}, "values, where the shape needs 36,864"),
    ({"datatype": "FP32"}, "datatype is 'FP32'; the model takes UINT8"),
    ({"datatype": "BYTES", "data": [1]}, "must be a text in base64"),
    ({"datatype": "BYTES", "data": ["YQ=="], "shape": [2]}, "shape is [2], and there are 1"),
    ({"data": [256] * 18432}, "data goes from 256 to 256; UINT8 has 0 to 255"),
    ({"data": [1.5] * 18432}, "data must be UINT8 numbers"),
    ({"data": [[1], [1, 2]]}, "data must be numbers, flat or nested"),
    ({"data": ["a"]}, "data must be UINT8 numbers"),
    ({"data": None}, "the input has neither `data`, a list, nor binary_data_size"),
    ({"parameters": {"binary_data_size": 7}}, "binary_data_size is 7, and 0 bytes follow"),
]


@pytest.mark.parametrize(("change", "said"), ODD_TENSORS)
def test_tensors_that_cannot_be_used(
    serve: Serve, picture: Picture, change: dict[str, Any], said: str
) -> None:
    body = request(picture(size=(64, 96)))
    body["inputs"][0] |= change
    answer = serve().post("/v2/models/regrow/infer", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"id": 3}, "id is a int; it is a text"),
        ({"outputs": [{"name": "x"}]}, "there is no output 'x'; the model gives probabilities"),
        ({"outputs": "x"}, "outputs must be a list of objects"),
        ({"parameters": {"binary_data_output": 1}}, "binary_data_output must be true or false"),
        ({"parameters": []}, "binary_data_output must be true or false"),
    ],
)
def test_requests_for_tensors_that_cannot_be_used(
    serve: Serve, picture: Picture, more: dict[str, Any], said: str
) -> None:
    answer = serve().post("/v2/models/regrow/infer", json=request(picture(size=(64, 96)), **more))
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_paths_and_models_that_there_are_not(serve: Serve) -> None:
    client = serve()
    for method, path, status, said in (
        ("GET", "/nothing", 404, "there is no path '/nothing'"),
        ("GET", "/invocations", 405, "'/invocations' is not for GET"),
        ("GET", "/v2/models/x", 404, "there is no model 'x'"),
        ("POST", "/v2/models/x/infer", 404, "there is no model 'x'"),
        ("GET", "/v2/models/regrow/versions/7", 404, "no model 'regrow' of version '7'"),
        ("GET", "/models", 404, "there is no path '/models'"),
    ):
        answer = client.request(method, path)
        assert answer.status_code == status
        assert said in answer.json()["error"]


def test_the_metrics_count_what_happened(serve: Serve, picture: Picture, encode: Encode) -> None:
    client = serve()
    for body in (encode(picture()), encode(picture()), b"no picture"):
        client.post("/invocations", content=body, headers=PNG)
    text = client.get("/metrics").text
    sha256 = client.service.host.entries["regrow"].model.sha256
    for line in (
        'regrow_request_success_total{model="regrow"} 2.0',
        'regrow_request_failure_total{model="regrow",reason="OTHER"} 1.0',
        'regrow_inference_count_total{model="regrow"} 2.0',
        'regrow_inference_exec_total{model="regrow"} 2.0',
        'regrow_responses_total{code="400"} 1.0',
        "regrow_pending_request_count 0.0",
        f'regrow_model_info{{model="regrow",sha256="{sha256}"}} 1.0',
        'regrow_compute_infer_duration_seconds_count{model="regrow"} 2.0',
    ):
        assert f"{line}\n" in text
