"""Training throughput of regrow against a bare PyTorch loop: same net, data and augmentation.

    python benchmarks/throughput.py --rounds 9
    python benchmarks/throughput.py --net cifar_resnet20 --batch 128 --rounds 9   # on a GPU

Each round trains an epoch with either side, in turn, in one process. The bare loop is the idiom
of PyTorch's own examples: a Dataset that transforms one image at a time, a shuffling DataLoader,
the same optimizer, precision and memory format, and nothing else. Only training batches are on the
clock, from the start of an epoch to its last step: the bare loop has neither validation nor
checkpoints. The figure is the median over rounds of the ratio of images per second, with the
quartiles; the first round warms up and is left out. On a machine that is shared, `--threads 1
--clock cpu` takes the time of the process in place of that of the wall.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from regrow.data.module import GrowingData
from regrow.data.source import Content, Source
from regrow.data.targets.labels import Item
from regrow.models.classification import Classification
from regrow.training.fit import Fit
from regrow.training.trainer import make_trainer

CLASSES = [str(number) for number in range(10)]


class Noise(Source):
    """Images of noise, in memory.

    Args:
        num_images: Number of training images.
    """

    def __init__(self, num_images: int) -> None:
        self.num_images = num_images

    def read(self, root: Path | None) -> Content:
        """Return them, and as many for validation as one batch needs."""
        random = np.random.default_rng(0)
        items = []
        for number in range(self.num_images + 64):
            split = "train" if number < self.num_images else "val"
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            items.append(Item(str(number), pixels, CLASSES[number % 10], split))
        return Content("labels", CLASSES, items)


class Images(Dataset[tuple[Tensor, int]]):
    """Images in memory, transformed one at a time."""

    def __init__(self, images: Tensor, labels: Tensor, augment: v2.Transform) -> None:
        self.images, self.labels, self.augment = images, labels, augment

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.augment(self.images[index]), int(self.labels[index])


class Stopwatch(Callback):
    """Time the training batches of each epoch, from before the first to after the last."""

    images, seconds, start = 0, 0.0, 0.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start."""
        self.start = self.clock()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and read the clock after the last batch."""
        self.images += len(batch[0])
        if batch_idx + 1 == trainer.num_training_batches:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds += self.clock() - self.start


def bare(
    task: Classification,
    loader: DataLoader[tuple[Tensor, int]],
    clock: Callable[[], float],
) -> float:
    """Train as a plain loop; return images per second."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    task.train().to(device)
    optimizer = task.optimization.build(task.net)
    seen, start = 0, clock()
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = cross_entropy(task.net(task.prepare(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(images)
    if device == "cuda":
        torch.cuda.synchronize()
    return seen / (clock() - start)


def regrow(task: Classification, data: GrowingData, clock: Callable[[], float]) -> float:
    """Train as `scripts/train.py` does; return images per second."""
    with tempfile.TemporaryDirectory() as folder:
        fit = Fit(epochs=1, images=0, trainer={"limit_val_batches": 1})
        trainer = make_trainer(task, fit, Path(folder))
        watch = Stopwatch(clock)
        trainer.callbacks.append(watch)
        trainer.fit(task, datamodule=data)
        return watch.images / watch.seconds


def main() -> None:
    """Print the ratio, and the figures that it is made of, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="small")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=6400, help="of an epoch")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    torch.set_num_threads(options.threads)
    augment = v2.RandomCrop([32, 32], padding=[2])
    data = GrowingData(
        Noise(options.images),
        size=(32, 32),
        batch_size=options.batch,
        augment=[augment],
        num_workers=options.workers,
    )
    data.order_classes(data.classes)
    plain = GrowingData(Noise(options.images), size=(32, 32), batch_size=options.batch)
    plain.order_classes(plain.classes)
    batches = list(plain.train_dataloader())
    images = torch.cat([batch[0] for batch in batches])
    labels = torch.cat([batch[1] for batch in batches])
    loader = DataLoader(
        Images(images, labels, augment),
        options.batch,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
    )
    figures: dict[str, list[float]] = {"bare": [], "regrow": []}
    for number in range(options.rounds + 1):
        for side in sorted(figures, reverse=number % 2 == 1):  # neither side always goes first
            task = Classification(data.classes, (32, 32), net=options.net)
            if side == "bare":
                figures[side].append(bare(task, loader, clock))
            else:
                figures[side].append(regrow(task, data, clock))
    ratios = [r / b for b, r in zip(figures["bare"], figures["regrow"], strict=True)][1:]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        json.dumps(
            {
                "ratio": middle,
                "quartiles": [low, high],
                "clock": options.clock,
                "net": options.net,
                "images_per_second": {n: statistics.median(v[1:]) for n, v in figures.items()},
                "rounds": figures,
                "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
                "threads": options.threads,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
