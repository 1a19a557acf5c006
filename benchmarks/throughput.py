"""Training throughput of regrow against a bare PyTorch loop: same net, data and augmentation.

    python benchmarks/throughput.py --rounds 5
    python benchmarks/throughput.py --net cifar_resnet20 --batch 128 --rounds 5   # on a GPU

Each round trains one epoch with either side, in turn, in one process. The bare loop is the idiom of
PyTorch's own examples: a Dataset that transforms one image at a time, a DataLoader with shuffling,
the same optimizer, precision and memory format, and nothing else. The figure is the ratio of the
medians of images per second; the first round warms up and is left out.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from regrow.data.module import GrowingData
from regrow.data.sample import Digits
from regrow.models.classification import Classification
from regrow.models.training import Fit, make_trainer


class Images(Dataset[tuple[Tensor, int]]):
    """Images in memory, transformed one at a time."""

    def __init__(self, images: Tensor, labels: Tensor, augment: v2.Transform) -> None:
        self.images, self.labels, self.augment = images, labels, augment

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.augment(self.images[index]), int(self.labels[index])


class Clock(Callback):
    """Time the training batches of an epoch, from before the first to after the last."""

    images, seconds, start = 0, 0.0, 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start."""
        self.start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and read the clock after the last batch."""
        self.images += len(batch[0])
        if batch_idx + 1 == trainer.num_training_batches:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds = time.perf_counter() - self.start


def bare_epoch(task: Classification, loader: DataLoader[tuple[Tensor, int]]) -> float:
    """Train one epoch as a plain loop; give images per second."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    task.train().to(device)
    optimizer = task.optimization.build(task.net)
    seen, start = 0, time.perf_counter()
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
    return seen / (time.perf_counter() - start)


def regrow_epoch(task: Classification, data: GrowingData) -> float:
    """Train one epoch as `scripts/train.py` does, without validation; give images per second."""
    with tempfile.TemporaryDirectory() as folder:
        fit = Fit(epochs=1, images=0, trainer={"limit_val_batches": 1})
        trainer = make_trainer(task, fit, Path(folder))
        clock = Clock()
        trainer.callbacks.append(clock)
        trainer.fit(task, datamodule=data)
        return clock.images / clock.seconds


def main() -> None:
    """Print the ratio, and the figures that it is made of, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="small")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    augment = v2.RandomCrop([32, 32], padding=[2])
    data = GrowingData(
        Digits(),
        size=(32, 32),
        batch_size=options.batch,
        augment=[augment],
        num_workers=options.workers,
    )
    data.order_classes(data.classes)
    plain = GrowingData(Digits(), size=(32, 32), batch_size=options.batch)
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
    for _ in range(options.rounds + 1):
        for side, run in (("bare", bare_epoch), ("regrow", regrow_epoch)):
            task = Classification(data.classes, (32, 32), net=options.net)
            figures[side].append(run(task, loader if side == "bare" else data))
    medians = {side: statistics.median(values[1:]) for side, values in figures.items()}
    print(
        json.dumps(
            {
                "images_per_second": medians,
                "ratio": medians["regrow"] / medians["bare"],
                "rounds": figures,
                "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
                "threads": options.threads,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
