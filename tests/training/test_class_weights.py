"""Class weights in the loss: by hand, and in training, saving and growing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from regrow.data.module import GrowingData
from regrow.data.source import Content, Source
from regrow.data.targets.labels import Item, Mask
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task
from regrow.training.class_weights import balanced_weights, weigh_classes_
from regrow.training.fit import Fit
from regrow.training.trainer import fine_tune_, make_trainer, train


class Uneven(Source):
    """Nine images of a for three of b; of masks as many pixels."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def read(self, root: Path | None) -> Content:
        random = np.random.default_rng(0)
        items = []
        for split, count in (("train", 12), ("val", 4)):
            for number in range(count):
                pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                numbers = np.full((16, 16), 0 if number % 4 else 1, np.uint8)
                numbers[0] = 255
                target = "ba"[number % 4 > 0]
                masked = Mask(numbers, {0: "a", 1: "b"})
                label = target if self.kind == "labels" else masked
                items.append(Item(f"{split}{number}", pixels, label, split))
        return Content(self.kind, ["a", "b"], items)  # type: ignore[arg-type]


def make_data(kind: str = "labels") -> GrowingData:
    data = GrowingData(Uneven(kind), size=(16, 16), batch_size=4, test_share=0)
    data.order_classes(["new", "b", "a"])
    return data


def make_task(class_weights: str | None = "balanced", made: type[Task] = Classification) -> Task:
    torch.manual_seed(0)
    options = {"net_args": {"width": 4}, "class_weights": class_weights}
    return made(["new", "b", "a"], (16, 16), **options)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = np.repeat([0, 1, 2], [30, 5, 1])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced_weights([30, 5, 1]).tolist() == pytest.approx(expected.tolist())
    assert balanced_weights([30, 0, 5, 1]).tolist() == pytest.approx([*np.insert(expected, 1, 0)])


@pytest.mark.parametrize(("kind", "made"), [("labels", Classification), ("masks", Segmentation)])
def test_a_task_is_weighed_by_its_training_data_if_it_asks_for_it(
    kind: str, made: type[Task]
) -> None:
    data = make_data(kind)
    task, plain = make_task(made=made), make_task(None, made)
    for each in (task, plain):
        weigh_classes_(each, data)
    assert plain.loss_weights is None
    assert task.loss_weights is not None
    # A share of 1/4 and 3/4 in two classes; no image shows the third.
    assert task.loss_weights.tolist() == pytest.approx([0, 2, 2 / 3])


def test_training_and_fine_tuning_weigh_classes_and_files_hold_the_wish_alone(
    tmp_path: Path,
) -> None:
    data, fit = make_data(), Fit(epochs=1, images=0, accelerator="cpu")
    task, plain = make_task(), make_task(None)
    for each, run in ((task, "weighed"), (plain, "plain")):
        train(each, data, make_trainer(each, fit, tmp_path / run), tmp_path / run)
    weighed, other = (each.net.head.weight for each in (task, plain))
    assert not torch.equal(weighed, other)
    save(tmp_path / "saved.ckpt", task)
    loaded = load(tmp_path / "saved.ckpt")
    assert (loaded.class_weights, loaded.loss_weights) == ("balanced", None)
    fine_tune_(loaded, data, fit, tmp_path)
    assert loaded.loss_weights is not None
    assert loaded.loss_weights.tolist() == pytest.approx([0, 2, 2 / 3])
