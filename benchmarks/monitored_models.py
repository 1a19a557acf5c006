"""Served models on real data: what the monitor knows of each picture, its answer and its loss."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regrow.data.images.conversion import Decoding
from regrow.data.images.opening import open_image
from regrow.data.images.transforms import small_image, small_mask
from regrow.data.targets.labels import VOID
from regrow.deploy.serving.answers import predictions
from regrow.deploy.serving.served_model import ServedModel
from regrow.models.classification import Classification
from regrow.models.onnx.graph import export_graph
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task
from regrow.monitor.baseline import UNWATCHED
from regrow.monitor.features import LIGHT
from regrow.monitor.rows import row_values
from regrow.monitor.texture import TEXTURE
from regrow.monitor.truths import Truth, loss_of

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STREETS = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign", "fence", "car", "person", "bicycle"),
)
BATCH = 100
Frame = tuple[np.ndarray, np.ndarray]  # pixels, uint8 RGB (h, w, 3), and class numbers (h, w)
SIZE, EPOCHS, STREET_BATCH, RATE = (120, 160), 8, 8, 1e-3  # of the network for streets


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of some pictures.

    Args:
        names: The watched scores.
        values: Their values, (pictures, scores).
        losses: The loss of each answer, (pictures,).
        truths: The number of each true class, or zeros, (pictures,).
    """

    names: tuple[str, ...]
    values: np.ndarray
    losses: np.ndarray
    truths: np.ndarray

    def sets(self) -> dict[str, list[int]]:
        """Return the columns of light and colours, those and texture, and all."""
        columns = range(len(self.names))
        light = [n for n in columns if self.names[n] in LIGHT]
        texture = [n for n in columns if self.names[n] in TEXTURE]
        return {"light": light, "and texture": [*light, *texture], "and answers": [*columns]}


def see(model: ServedModel, pictures: Sequence[np.ndarray], truths: Sequence[Truth]) -> Seen:
    """Return what the monitor knows of pictures that a model is sent."""
    rows, losses = [], []
    for start in range(0, len(pictures), BATCH):
        part = pictures[start : start + BATCH]
        images = np.stack([small_image(pixels, model.size).numpy() for pixels in part])
        outputs = model.run(model.as_input(images), model.outputs)
        answers = predictions(model, outputs, [pixels.shape[:2] for pixels in part])
        for pixels, answer, truth in zip(part, answers, truths[start:], strict=False):
            values, reason = row_values(pixels, None, answer, model.classes)
            if reason:
                raise ValueError(reason)
            rows.append(values)
            losses.append(loss_of(answer, truth, model.classes))
    names = [n for n, v in rows[0].items() if isinstance(v, float) and n not in UNWATCHED]
    names.sort(key=lambda name: (name not in LIGHT, name not in TEXTURE))
    values = np.array([[row[name] for name in names] for row in rows], dtype=np.float64)
    classes = {name: number for number, name in enumerate(model.classes)}
    numbers = [classes[own] if isinstance(own, str) else 0 for own in truths]
    return Seen(tuple(names), values, np.array(losses), np.array(numbers))


def kept(file: Path, make: Callable[[], Seen]) -> Seen:
    """Return what a file of an earlier call holds, or else make it, and write it."""
    if not file.is_file():
        made = make()
        np.savez(file, names=made.names, values=made.values, losses=made.losses, truths=made.truths)
    with np.load(file) as found:
        names = tuple(map(str, found["names"]))
        return Seen(names, found["values"], found["losses"], found["truths"])


def cifar_model(data: Path, work: Path) -> ServedModel:
    """Return the trained CIFAR ResNet-20 as it is served."""
    file = work / "cifar.onnx"
    if not file.is_file():
        weights = str(data / "weights" / "cifar10_resnet20.pth")
        mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        task = Classification(
            [*CIFAR], (32, 32), net="cifar_resnet20", weights=weights, mean=mean, std=std
        )
        export_graph(task.eval(), file)
    return ServedModel(file, Decoding(), num_threads=1)


def cifar_test(data: Path) -> tuple[list[np.ndarray], list[str]]:
    """Return the test images of CIFAR-10 and their classes."""
    images, labels, _ = _unpacker(data / "cifar10" / "unpack.py").load("test_batch")
    return [*images], [CIFAR[label] for label in labels]


def street_frames(data: Path, splits: Sequence[str], *, is_dusk: bool) -> list[Frame]:
    """Return the frames of CamVid filmed by day, or at dusk, in time order, with their truths."""
    found, folder = [], data / "camvid"
    for split in splits:
        for file in sorted((folder / "images" / split).glob("*.jpg")):
            if file.name.startswith("0001TP") == is_dusk:
                mask = np.array(open_image(folder / "masks" / split / f"{file.stem}.png"))
                mask[mask == len(STREETS)] = VOID
                found.append((np.asarray(open_image(file).convert("RGB")), mask))
    if not found:
        raise SystemExit(f"{data}: no frames of CamVid; --data names the folder that holds camvid")
    return found


def street_model(data: Path, work: Path) -> ServedModel:
    """Return a network for streets, trained on the training frames filmed by day."""
    file = work / "streets.onnx"
    if not file.is_file():
        export_graph(_trained(street_frames(data, ["train"], is_dusk=False), data), file)
    return ServedModel(file, Decoding(), num_threads=1)


def _trained(frames: Sequence[Frame], data: Path) -> Task:
    torch.manual_seed(0)
    weights = str(data / "weights" / "tf_efficientnet_lite0_imagenet_fp16.pth")
    task = Segmentation(
        [*STREETS],
        SIZE,
        net="lraspp",
        net_args={"backbone": "timm/tf_efficientnet_lite0"},
        weights=weights,
        dice=1.0,
        mean=[0.5] * 3,
        std=[0.5] * 3,
    ).train()
    images = torch.stack([small_image(pixels, SIZE) for pixels, _ in frames])
    masks = torch.from_numpy(np.stack([small_mask(mask, SIZE) for _, mask in frames]))
    optimizer = torch.optim.AdamW(task.parameters(), RATE, weight_decay=0.05)
    steps = EPOCHS * (len(images) // STREET_BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images))
        for start in range(0, len(images) - STREET_BATCH + 1, STREET_BATCH):
            chosen = order[start : start + STREET_BATCH]
            flip = torch.rand(1) < 0.5
            own = images[chosen].flip(-1) if flip else images[chosen]
            truth = masks[chosen].flip(-1) if flip else masks[chosen]
            optimizer.zero_grad()
            torch.stack([*task.losses(task(own), truth).values()]).sum().backward()
            optimizer.step()
            schedule.step()
    return task.eval()


def _unpacker(file: Path) -> Any:
    """Return the module that reads the sheets of CIFAR-10."""
    spec = importlib.util.spec_from_file_location("unpack", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise SystemExit(f"{file}: not there; --data names the folder that holds cifar10")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
