"""Networks and data for INT8: what a network gets right, and what rounding to 8 bits loses."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from given import Given
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Item
from regrow.models.classification import Classification

SIZE = (16, 16)


def made_images(count: int, seed: int) -> list[np.ndarray]:
    """Return smooth pictures, some dark and some bright."""
    draw = np.random.default_rng(seed)
    small = draw.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return list(small.repeat(4, axis=1).repeat(4, axis=2))


def named(task: Classification, images: list[np.ndarray]) -> list[str]:
    """Return what the network itself calls images, so that its accuracy is 1."""
    stacked = torch.from_numpy(np.stack(images)).movedim(-1, 1)
    with torch.no_grad():
        found = task(stacked)["logits"]
    # The middle stands between both classes, so that there are as many of each.
    return ["ab"[number] for number in found.argmax(1).tolist()]


def data_of(task: Classification, *, num_tests: int = 60) -> GrowingData:
    """Return data that the network gets right."""
    items = []
    for seed, (split, count) in enumerate({"train": 24, "val": 16, "test": num_tests}.items()):
        images = made_images(count, seed)
        labels = named(task, images)
        items += [
            Item(f"{split}{n}", image, label, split)
            for n, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
    data = GrowingData(Given(items), size=SIZE, batch_size=8)
    data.order_classes(task.classes)
    return data


def accuracy(path: Path, data: GrowingData) -> float:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    tests = [item for item in data.snapshot.items if item.split == "test"]
    images = np.stack([np.moveaxis(np.asarray(item.image), -1, 0) for item in tests])
    (given,) = session.run(["probabilities"], {"images": images})
    return float(
        np.mean(["ab"[n] == t.target for n, t in zip(given.argmax(1), tests, strict=True)])
    )


def unbalance_(task: Classification, factor: float = 2.0**14) -> None:
    """Let one channel of a `small` classifier's second stage be larger than all others.

    Its readers weigh it less by the same factor, so that the network in float answers as before,
    bit for bit where the factor is a power of two. With one scale for all channels of the stage,
    the others round to zero.
    """
    two, three = task.net.two, task.net.three
    with torch.no_grad():
        for norm in (two[0][1], two[1].norm):
            norm.weight[0] *= factor
            norm.bias[0] *= factor
        for reader in (two[1].first[0], three[0][0]):
            reader.weight[:, 0] /= factor
