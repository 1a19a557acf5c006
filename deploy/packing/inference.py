"""Answer pictures with `model.onnx` in SageMaker's PyTorch serving container.

The container calls `model_fn` once, and `input_fn`, `predict_fn` and `output_fn` for each request.
A copy of this file lies in `code/` of a packed model.tar.gz, so it needs no regrow. A request is an
encoded picture, or an array of decoded ones (application/x-npy, uint8, RGB). The answer is JSON:
`model`, the hash of the file, and `predictions`, one for each picture.
"""

import base64
import hashlib
import io
import json
import os
from typing import Any

import numpy as np
import onnxruntime
import torch
from PIL import Image, ImageOps

JSON, NPY = "application/json", "application/x-npy"
ENCODED = ("", "application/octet-stream", "application/x-image", "binary/octet-stream")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 89_478_485


class Model:
    """A model that was exported with its class names.

    Args:
        path: The ONNX file.
    """

    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            self.sha256 = hashlib.sha256(file.read()).hexdigest()
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        entries = self.session.get_modelmeta().custom_metadata_map
        self.about = {name.removeprefix("regrow."): json.loads(v) for name, v in entries.items()}
        self.outputs = [output.name for output in self.session.get_outputs()]


def model_fn(model_dir: str) -> Model:
    """Load the model of a folder."""
    return Model(os.path.join(model_dir, "model.onnx"))


def input_fn(request_body: bytes, content_type: str | None) -> list[np.ndarray]:
    """Return the pictures of a request, uint8 RGB (h, w, 3) each.

    Raises:
        ValueError: If its type or its content cannot be read.
    """
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == NPY:
        return _of_array(np.load(io.BytesIO(request_body), allow_pickle=False))
    if kind not in ENCODED and not kind.startswith("image/"):
        raise ValueError(f"no body of type {kind!r} is read; send image/jpeg or {NPY}")
    with Image.open(io.BytesIO(request_body), formats=FORMATS) as opened:
        if opened.width * opened.height > MAX_PIXELS:
            raise ValueError(f"{opened.width} x {opened.height} pixels; send {MAX_PIXELS} at most")
        opened.load()
        ImageOps.exif_transpose(opened, in_place=True)
        return [_colours(opened)]


def predict_fn(pictures: list[np.ndarray], model: Model) -> dict[str, Any]:
    """Return what the model predicts for each picture, as plain data."""
    images = torch.cat([_resized(one, tuple(model.about["size"])) for one in pictures]).numpy()
    if model.about["input"]["type"] == "float32":
        images = images.astype(np.float32) / np.float32(255)
    values = model.session.run(None, {model.about["input"]["name"]: images})
    outputs = dict(zip(model.outputs, values, strict=True))
    answers = {"labels": _labels, "boxes": _objects, "masks": _masks}[model.about["kind"]]
    sizes = [one.shape[:2] for one in pictures]
    return {"model": model.sha256, "predictions": answers(model.about, outputs, sizes)}


def output_fn(prediction: dict[str, Any], accept: str | None) -> tuple[str, str]:
    """Return the answer as text, and its type, which is JSON whatever the client accepts."""
    return json.dumps(prediction), JSON


def _of_array(values: np.ndarray) -> list[np.ndarray]:
    if values.dtype != np.uint8 or values.ndim not in (3, 4) or values.shape[-1] != 3:
        raise ValueError(f"{values.dtype} of shape {values.shape}; send uint8, ([n,] h, w, 3)")
    pictures = list(values if values.ndim == 4 else values[None])
    if not pictures or not values.size:
        raise ValueError(f"an array of shape {values.shape} holds no picture")
    return pictures


def _colours(opened: Image.Image) -> np.ndarray:
    """Return the colours of a picture; of 16-bit grey the upper 8 bits."""
    if opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format in ("PNG", "PPM")):
        grey = (np.asarray(opened).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if opened.mode in ("I", "F"):
        raise ValueError("the pixels are signed or 32-bit numbers, not colours")
    if "transparency" in opened.info:
        opened = opened.convert("RGBA")
    return np.asarray(opened.convert("RGB"))


def _resized(picture: np.ndarray, size: tuple[int, ...]) -> torch.Tensor:
    """Return a picture resized as in training, uint8 (1, 3, h, w)."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    if tuple(pixels.shape[-2:]) == size:
        return pixels
    return torch.nn.functional.interpolate(pixels, list(size), mode="bilinear", antialias=True)


def _labels(about: Any, outputs: Any, sizes: Any) -> list[dict[str, Any]]:
    found = []
    for row in outputs["probabilities"]:
        best, scores = int(row.argmax()), row.tolist()
        named = dict(zip(about["classes"], scores, strict=True))
        found.append({"label": about["classes"][best], "score": scores[best], "scores": named})
    return found


def _objects(about: Any, outputs: Any, sizes: Any) -> list[dict[str, Any]]:
    """Return the objects of each picture, best first, in its own pixels."""
    height, width = about["size"]
    found: list[list[dict[str, Any]]] = [[] for _ in sizes]
    for image, label, place in outputs["selected"].tolist():
        own_height, own_width = sizes[image]
        scale = np.array([own_width / width, own_height / height] * 2)
        found[image].append(
            {
                "label": about["classes"][label],
                "score": float(outputs["scores"][image, label, place]),
                "box": (outputs["boxes"][image, place] * scale).tolist(),
            }
        )
    most = about["suppression"].get("max_detections", 100)
    return [{"objects": sorted(own, key=lambda o: -o["score"])[:most]} for own in found]


def _masks(about: Any, outputs: Any, sizes: Any) -> list[dict[str, Any]]:
    """Return the mask of each picture at its own size."""
    classes, found = about["classes"], []
    for mask, (height, width) in zip(outputs["mask"], sizes, strict=True):
        small = torch.from_numpy(mask.astype(np.float32))[None, None]
        whole = torch.nn.functional.interpolate(small, [height, width], mode="nearest-exact")
        numbers = whole[0, 0].numpy().astype(np.uint8 if len(classes) <= 256 else np.uint16)
        counts = np.bincount(numbers.ravel(), minlength=len(classes)) / numbers.size
        file = io.BytesIO()
        Image.fromarray(numbers).save(file, "PNG", compress_level=1)
        found.append(
            {
                "mask": base64.b64encode(file.getvalue()).decode(),
                "classes": classes,
                "shares": dict(zip(classes, counts.tolist(), strict=True)),
            }
        )
    return found
