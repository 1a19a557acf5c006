"""Rows of new classes point where their images' features do."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.ssd import SSDHead

from regrow.incremental.expand import expand_
from regrow.incremental.imprint import imprint_
from regrow.models.class_rows import ClassRows
from regrow.models.classification import Classification

Batch = tuple[Tensor, Tensor]


class Linear(nn.Module):
    """Eight features a network does not learn, and a linear classifier on them."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def linear(classes: str = "abxy") -> Classification:
    class Task(Classification):
        def class_rows(self) -> list[ClassRows]:
            return [ClassRows("head")]

    torch.manual_seed(1)
    task = Task(list(classes), (4, 4))
    task.net = Linear(len(classes))
    return task


def batches(*labels: list[int]) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randint(0, 256, (len(own), 3, 4, 4), generator=generator, dtype=torch.uint8),
            torch.tensor(own),
        )
        for own in labels
    ]


def pulls(task: Classification, given: list[Batch]) -> Tensor:
    """Return the sum over images of (1 if it is the class - its probability) x features, (c, d)."""
    task = copy.deepcopy(task).double().eval()
    total = torch.zeros(len(task.classes), 8, dtype=torch.float64)
    with torch.no_grad():
        for images, labels in given:
            for image, label in zip(images, labels, strict=True):
                features = task.net.get_submodule("features")(task.prepare(image[None]))[0]
                scores = task.net.get_submodule("head")(features)
                for index in range(len(task.classes)):
                    share = float((scores - scores.logsumexp(0)).exp()[index])
                    wanted = float(index == int(label))
                    total[index] += (wanted - share) * features / len(labels)
    return total


@pytest.mark.parametrize(
    "given", [batches([2, 3, 0, 2, 1, 3]), batches([2, 3], [0, 2], [3, 1])], ids=["one", "three"]
)
def test_rows_of_a_linear_classifier_are_the_sum_of_what_pulls_at_them(given: list[Batch]) -> None:
    task = linear()
    old, bias = task.net.get_parameter("head.weight").detach().clone(), task.net.head.bias.clone()
    expected = pulls(task, given)
    imprint_(task, ["x", "y"], iter(given))
    weight = task.net.get_parameter("head.weight").detach()
    length = (old[0].norm() + old[1].norm()) / 2
    for row in (2, 3):
        wanted = expected[row] / expected[row].norm() * length
        torch.testing.assert_close(weight[row], wanted.float(), rtol=1e-4, atol=1e-6)
    assert torch.equal(weight[:2], old[:2])
    assert torch.equal(task.net.head.bias, bias)


def test_a_row_finds_its_class_at_once() -> None:
    task, given = linear(), batches([2] * 4 + [0] * 4)
    images, labels = given[0]
    imprint_(task, ["x"], given)
    with torch.no_grad():
        features = task.net.get_submodule("features").eval()(task.prepare(images))
        scores = features @ task.net.get_parameter("head.weight")[2]
    assert scores[labels == 2].mean() > scores[labels == 0].mean()


def test_all_but_the_new_rows_is_left_as_it_was() -> None:
    task = linear()
    task.net.train()
    task.net.get_submodule("features.1").requires_grad_(False)
    state = torch.get_rng_state()
    before = {name: p.detach().clone() for name, p in task.net.named_parameters()}
    imprint_(task, ["y"], batches([3, 0]))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in task.net.modules())
    flags = {name: p.requires_grad for name, p in task.net.named_parameters()}
    assert [name for name, flag in flags.items() if not flag] == [
        "features.1.weight",
        "features.1.bias",
    ]
    for name, parameter in task.net.named_parameters():
        assert parameter.grad is None
        if name != "head.weight":
            assert torch.equal(parameter, before[name])
    head = task.net.get_parameter("head.weight")
    assert torch.equal(head[:3], before["head.weight"][:3])
    assert not torch.equal(head[3], before["head.weight"][3])


def test_rows_stay_where_there_is_no_image() -> None:
    task = linear()
    before = task.net.get_parameter("head.weight").detach().clone()
    imprint_(task, ["x", "y"], [])
    assert torch.equal(task.net.get_parameter("head.weight"), before)


def test_rows_keep_their_own_length_where_no_old_class_is_left() -> None:
    task = linear("xy")
    before = task.net.get_parameter("head.weight").detach().clone()
    imprint_(task, ["x", "y"], batches([0, 1, 1]))
    after = task.net.get_parameter("head.weight").detach()
    wanted = before.norm(dim=1).mean().expand(2)
    torch.testing.assert_close(after.norm(dim=1), wanted)
    assert not torch.equal(after, before)


class Dense(Classification):
    """An SSD-like head of two levels, whose loss is the scores' product with what is asked for."""

    def __init__(self, classes: list[str]) -> None:
        super().__init__(classes, (4, 4))
        torch.manual_seed(1)
        self.net = SSDHead([3, 3], [2, 3], len(classes) + 1)

    def class_rows(self) -> list[ClassRows]:
        names = (f"classification_head.module_list.{place}" for place in (0, 1))
        return [ClassRows(n, a, background=1) for n, a in zip(names, (2, 3), strict=True)]

    def outputs(self, features: Tensor) -> dict[str, Tensor]:
        return self.net([features, features[..., ::2, ::2]])

    def losses(self, outputs: dict[str, Tensor], targets: Any) -> dict[str, Tensor]:
        return {"product": -(outputs["cls_logits"] * targets).sum()}


def test_each_anchor_of_a_dense_head_has_a_row_of_its_own() -> None:
    task = Dense(["a", "b"])
    expand_(task, ["b", "new", "a"], new_rows="imprint")
    layers = [task.net.get_submodule(rows.layer) for rows in task.class_rows()]
    before = [layer.weight.detach().clone() for layer in layers]  # type: ignore[operator]
    images = task.example_images(2)
    # 4 x 4 places of two anchors, then 2 x 2 of three; background, b, new, a. The new class is
    # wanted in the first image, at the second place of the first level, by its second anchor, and
    # at the last place of the second level by its first.
    wanted = torch.zeros(2, 4 * 4 * 2 + 2 * 2 * 3, 4)
    wanted[0, 1 * 2 + 1, 2] = 1
    wanted[0, 32 + 3 * 3 + 0, 2] = 2
    imprint_(task, ["new"], [(images, wanted)])

    padded = torch.nn.functional.pad(task.prepare(images)[0], (1, 1, 1, 1))
    coarse = torch.nn.functional.pad(task.prepare(images)[0, :, ::2, ::2], (1, 1, 1, 1))
    # What a 3x3 filter sees at (0, 1), and at (1, 1).
    seen = {(0, 1): padded[:, 0:3, 1:4], (1, 0): coarse[:, 1:4, 1:4]}
    for level, (layer, old, num_anchors) in enumerate(zip(layers, before, (2, 3), strict=True)):
        for anchor in range(num_anchors):
            rows = slice(4 * anchor, 4 * anchor + 4)
            new, olds = layer.weight.detach()[rows], old[rows]  # type: ignore[index]
            assert torch.equal(new[[0, 1, 3]], olds[[0, 1, 3]])
            if (level, anchor) not in seen:
                assert torch.equal(new[2], olds[2])  # no image asked for it
                continue
            patch = seen[level, anchor]
            length = (olds[1].norm() + olds[3].norm()) / 2
            torch.testing.assert_close(new[2], patch / patch.norm() * length)


def test_boxes_that_each_class_has_are_no_features() -> None:
    class Boxed(Classification):
        def class_rows(self) -> list[ClassRows]:
            return [
                ClassRows("score", background=1),
                ClassRows("box", background=1, rows_per_class=4),
            ]

        def outputs(self, features: Tensor) -> dict[str, Tensor]:
            return {name: layer(features) for name, layer in self.net.items()}

        def losses(self, outputs: dict[str, Tensor], targets: Any) -> dict[str, Tensor]:
            return {name: value.square().sum() for name, value in outputs.items()}

        def prepare(self, images: Tensor) -> Tensor:
            return super().prepare(images).flatten(1)

    task = Boxed(["a", "b", "new"], (4, 4))
    task.net = nn.ModuleDict({"score": nn.Linear(48, 4), "box": nn.Linear(48, 16)})
    before = copy.deepcopy(task.net.state_dict())
    imprint_(task, ["new"], [(task.example_images(3), None)])
    assert torch.equal(task.net.get_parameter("box.weight"), before["box.weight"])
    score = task.net.get_parameter("score.weight")
    assert torch.equal(score[:3], before["score.weight"][:3])
    assert not torch.equal(score[3], before["score.weight"][3])
