import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback
from torch import Tensor, nn
from torchmetrics import Metric

from regrow.data.module import GrowingData
from regrow.data.source import Content, Source
from regrow.data.targets.labels import Item
from regrow.metrics.evidence import Evidence
from regrow.models.class_rows import ClassRows
from regrow.models.classification import Classification
from regrow.models.masks import mask_weights_
from regrow.models.optimization import Optimization
from regrow.models.task import Task


class NoMetric(Metric):
    """Remembers for how many classes it was made."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def update(self, predictions: Any, targets: Any) -> None: ...

    def compute(self) -> Mapping[str, Tensor]:
        return {}


@pytest.fixture
def make_task() -> Callable[..., Task]:
    """A task around any net: `make_task(net, rows, classes)`."""

    def make(net: nn.Module, rows: list[ClassRows], classes: list[str]) -> Task:
        class AnyTask(Task):
            kind = "labels"
            score = "accuracy"
            min_classes = 1

            def fresh_net(self, weights: str | None = None) -> nn.Module:
                return net

            def outputs(self, features: Tensor) -> dict[str, Tensor]:
                return {"scores": self.net(features)}

            def losses(self, outputs: dict[str, Tensor], targets: Any) -> dict[str, Tensor]:
                return {}

            def predict(self, outputs: dict[str, Tensor]) -> Tensor:
                return outputs["scores"].softmax(1)

            def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
                return outputs

            def from_decoded(self, decoded: dict[str, Tensor]) -> Tensor:
                return self.predict(decoded)

            def make_metric(self) -> Metric:
                return NoMetric(len(self.classes))

            def make_evidence(self) -> Evidence:
                raise NotImplementedError

            def class_rows(self) -> list[ClassRows]:
                return rows

            def output_layers(self) -> list[str]:
                return [entry.layer for entry in rows]

        return AnyTask(classes, (8, 8))

    return make


@pytest.fixture
def masked_task() -> Callable[..., Classification]:
    """A small network, most of whose weights are masked: `masked_task(optimizer="adamw")`."""

    def make(optimizer: Literal["sgd", "adamw", "rmsprop"] = "adamw") -> Classification:
        torch.manual_seed(0)
        task = Classification(
            ["a", "b"],
            (16, 16),
            net_args={"width": 4},
            optimization=Optimization(optimizer, lr=0.05),
        )
        weights = {n: w for n, w in task.net.named_parameters() if w.ndim > 1}
        mask_weights_(task.net, {n: torch.rand(w.shape) < 0.4 for n, w in weights.items()})
        return task

    return make


class Stop(Callback):
    """Let the platform's signal come while a batch is trained."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def stop_at() -> Callable[[int], Callback]:
    """Return a function that stops a training after a step."""
    return Stop


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Noise(Source):
    """Images of noise by split, whose classes take turns."""

    def __init__(self, classes: str, counts: Mapping[str, int], seed: int) -> None:
        self.classes, self.counts, self.seed = classes, counts, seed

    def read(self, root: Path | None) -> Content:
        random = np.random.default_rng(self.seed)
        items = []
        for split, count in self.counts.items():
            for number in range(count):
                pixels = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                target = self.classes[number % len(self.classes)]
                items.append(Item(f"{split}{number}", pixels, target, split))
        return Content("labels", sorted(set(self.classes)), items)


@pytest.fixture
def make_data() -> Callable[..., GrowingData]:
    """Data of 4x4 noise: `make_data(train=8, val=2, test=0, classes="ab", seed=0)`."""

    def make(classes: str = "ab", seed: int = 0, **counts: int) -> GrowingData:
        source = Noise(classes, counts, seed)
        return GrowingData(source, size=(4, 4), val_share=0, test_share=0)

    return make
