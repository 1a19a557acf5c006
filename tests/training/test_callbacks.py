"""What a run shows while it goes: the pictures, the throughput, the final scores."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric, Metric
from torchvision.transforms.v2.functional import pil_to_tensor

from regrow.metrics.evidence import Evidence
from regrow.models.class_rows import ClassRows
from regrow.models.task import Task
from regrow.reporting.pictures import draw, picture
from regrow.reporting.tensorboard import log_hparams
from regrow.training.callbacks import PredictionImages, Throughput, save_prediction_picture
from regrow.training.progress_bar import RunProgress

pytestmark = [
    # Lightning 2.6 with torch 2.15.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning"),
    # The loaders of these tests have no workers.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]

CLASSES = ["dark", "light"]


class Accuracy(MeanMetric):
    def update(self, predictions: Tensor, targets: Tensor) -> None:
        super().update((predictions.argmax(1) == targets).float())

    def compute(self) -> Mapping[str, Tensor]:
        return {"accuracy": super().compute()}


class Brightness(Task):
    kind = "labels"
    score = "accuracy"

    def fresh_net(self, weights: str | None = None) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))

    def outputs(self, features: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(features)}

    def losses(self, outputs: dict[str, Tensor], targets: Any) -> dict[str, Tensor]:
        return {"ce": nn.functional.cross_entropy(outputs["logits"], targets)}

    def predict(self, outputs: dict[str, Tensor]) -> Tensor:
        return outputs["logits"].softmax(1)

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return outputs

    def from_decoded(self, decoded: dict[str, Tensor]) -> Tensor:
        return self.predict(decoded)

    def make_metric(self) -> Metric:
        return Accuracy()

    def make_evidence(self) -> Evidence:
        raise NotImplementedError

    def class_rows(self) -> list[ClassRows]:
        return [ClassRows("2")]

    def output_layers(self) -> list[str]:
        return ["2"]


class Waiting(Callback):
    """Makes the first batch, other batches and validation last a known time."""

    def __init__(self, first: float, batch: float, validation: float) -> None:
        self.first, self.batch, self.validation = first, batch, validation

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        time.sleep(self.first if batch_idx == 0 else self.batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        time.sleep(self.validation)


class Data:
    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(24) % 2
        noise = torch.randint(0, 100, (24, 3, 8, 8), generator=generator)
        self.images = (noise + 140 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
        self.labels = labels

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(self.images, self.labels), batch_size=4)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(self.images, self.labels), batch_size=4)


@pytest.fixture
def data() -> Data:
    return Data()


@pytest.fixture
def task() -> Task:
    torch.manual_seed(0)
    return Brightness(CLASSES, (8, 8))


@pytest.fixture
def fit(task: Task, data: Data, tmp_path: Path) -> Callable[..., Trainer]:
    def run(*callbacks: Callback, epochs: int = 2, **options: Any) -> Trainer:
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=list(callbacks),
            logger=TensorBoardLogger(tmp_path, name="tensorboard", version=""),
            enable_checkpointing=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            **options,
        )
        trainer.fit(task, data.train_dataloader(), data.val_dataloader())
        return trainer

    return run


def _events(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    return events.Reload()


def _decoded(encoded: bytes, path: Path) -> Tensor:
    path.write_bytes(encoded)
    with Image.open(path) as file:
        return pil_to_tensor(file.convert("RGB"))


def test_tensorboard_holds_the_first_images_of_each_due_epoch(
    fit: Callable[..., Trainer], task: Task, data: Data, tmp_path: Path
) -> None:
    # Six images need two batches of four.
    fit(PredictionImages(6, every_n_epochs=2), RunProgress(), epochs=4)
    images = _events(tmp_path).Images("val/predictions")
    assert [event.step for event in images] == [11, 23]  # as their scores
    shown = _decoded(images[-1].encoded_image_string, tmp_path / "a.png")
    task.eval()
    with torch.no_grad():
        predictions = task.predict(task(data.images[:6]))
    pairs = draw(data.images[:6], predictions, data.labels[:6], CLASSES, "labels")
    height, width = pairs.shape[-2:]
    for index, pair in enumerate(pairs):
        top, left = 4 + index // 2 * (height + 4), 4 + index % 2 * (width + 4)
        assert torch.equal(shown[:, top : top + height, left : left + width], pair)


def test_pictures_do_not_change_the_weights(
    fit: Callable[..., Trainer], task: Task, data: Data
) -> None:
    state = {name: value.clone() for name, value in task.state_dict().items()}
    fit(PredictionImages(8), Throughput(), RunProgress())
    watched = {name: value.clone() for name, value in task.state_dict().items()}
    task.load_state_dict(state)
    fit(RunProgress())
    for name, value in task.state_dict().items():
        assert torch.equal(value, watched[name]), name


def test_throughput_leaves_out_the_first_batch_and_validation(
    fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    throughput = Throughput()
    # Five batches of four images after the first, 0.1 s each: at most 40 images/s. With the
    # first it would be at most 24 / 1.5 s, with validation 20 / 1.5 s.
    fit(Waiting(1.0, 0.1, 1.0), throughput, RunProgress(), epochs=1)
    assert throughput.images_per_second is not None
    assert 17 <= throughput.images_per_second <= 40
    (event,) = _events(tmp_path).Scalars("train/images_per_second")
    assert event.value == pytest.approx(throughput.images_per_second, rel=1e-5)
    assert event.step == 5  # of the steps 0 to 5


def test_throughput_leaves_out_validation_within_an_epoch(fit: Callable[..., Trainer]) -> None:
    throughput = Throughput()
    fit(Waiting(0, 0.1, 1.0), throughput, RunProgress(), epochs=1, val_check_interval=2)
    assert throughput.images_per_second is not None
    # With the validations between them the batches would take at least 2.5 s.
    assert 10 <= throughput.images_per_second <= 40


def test_hparams_and_final_scores_are_in_tensorboard(
    fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    trainer = fit(RunProgress(), epochs=1)
    log_hparams(trainer.logger, {"fit": {"epochs": 1, "clip": None}, "seed": 3}, {"final/x": 0.5})
    events = _events(tmp_path)
    assert [event.value for event in events.Scalars("final/x")] == [0.5]
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["fit.epochs"].number_value == 1
    assert values["fit.clip"].string_value == "None"
    assert values["seed"].number_value == 3


def test_picture_file_shows_the_first_validation_images(
    task: Task, data: Data, tmp_path: Path
) -> None:
    task.train()
    save_prediction_picture(task, data, tmp_path / "p.png", 3)  # type: ignore[arg-type]
    assert task.training
    with torch.no_grad():
        predictions = task.predict(task(data.images[:3]))
    expected = picture(data.images[:3], predictions, data.labels[:3], CLASSES, "labels")
    shown = _decoded((tmp_path / "p.png").read_bytes(), tmp_path / "copy.png")
    assert torch.equal(shown, expected)
