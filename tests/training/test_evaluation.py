"""An evaluation is the loop one would write by hand, and leaves the task as it was."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regrow.metrics.evidence import BoxEvidence, ConfusionEvidence, CorrectEvidence
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.segmentation import Segmentation
from regrow.training.evaluation import evaluate

Batch = tuple[Tensor, Any]


def _images(count: int, size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, size, size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.fixture
def task() -> Classification:
    torch.manual_seed(0)
    task = Classification(["ant", "bee", "cat"], (16, 16))
    with torch.no_grad():
        for module in task.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
    return task


@pytest.fixture
def batches() -> list[Batch]:
    # No image is a cat.
    return [
        (_images(5, 16, 1), torch.tensor([0, 1, 1, 0, 1])),
        (_images(3, 16, 2), torch.tensor([0, 0, 1])),
    ]


def _modes(task: nn.Module) -> list[bool]:
    return [module.training for module in task.modules()]


def test_evaluation_equals_a_loop_by_hand(task: Classification, batches: list[Batch]) -> None:
    result = evaluate(task, batches)
    task.eval()
    with torch.no_grad():
        guesses = torch.cat(
            [
                task.net((images / 255 - task.mean) / task.std).argmax(1).flatten()
                for images, _ in batches
            ]
        )
    labels = torch.cat([labels for _, labels in batches])
    right = guesses == labels
    expected = [float(right[labels == index].float().mean()) for index in (0, 1)]
    assert result.name == "accuracy"
    assert result.value == pytest.approx(float(right.float().mean()))
    assert list(result.per_class) == ["ant", "bee", "cat"]
    assert [result.per_class["ant"], result.per_class["bee"]] == pytest.approx(expected)
    assert math.isnan(result.per_class["cat"])
    assert result.others == pytest.approx({"macro_accuracy": sum(expected) / 2})
    assert result.num_images == 8
    assert isinstance(result.evidence, CorrectEvidence)
    assert result.evidence.correct.tolist() == right.tolist()


def test_evaluation_changes_no_mode_and_no_tensor(
    task: Classification, batches: list[Batch]
) -> None:
    task.train()
    task.net.one.eval()
    modes = _modes(task)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    evaluate(task, batches)
    assert _modes(task) == modes
    assert len(set(modes)) == 2
    for name, value in task.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_modes_are_put_back_after_an_error(task: Classification) -> None:
    task.train()
    modes = _modes(task)
    with pytest.raises(RuntimeError):
        evaluate(task, [(torch.zeros(1, 5, 16, 16), torch.tensor([0]))])
    assert _modes(task) == modes


def test_evaluation_asks_forward_in_place_of_the_network(
    task: Classification, batches: list[Batch]
) -> None:
    labels = iter([labels for _, labels in batches])
    seen = []

    def oracle(images: Tensor) -> dict[str, Tensor]:
        assert not task.training
        seen.append(images)
        return {"logits": 9.0 * torch.eye(3)[next(labels)]}

    result = evaluate(task, batches, oracle)
    assert result.value == 1
    assert [images.dtype for images in seen] == [torch.uint8, torch.uint8]
    assert torch.equal(seen[1], batches[1][0])


def test_a_second_evaluation_starts_anew(task: Classification, batches: list[Batch]) -> None:
    first, second = evaluate(task, batches), evaluate(task, batches)
    assert (second.value, second.num_images) == (first.value, first.num_images)
    assert task.metric.update_count == 0


def test_evaluation_of_masks_scores_as_its_evidence_does() -> None:
    torch.manual_seed(0)
    task = Segmentation(["sky", "sea"], (16, 16))
    truth = torch.randint(0, 2, (4, 16, 16), dtype=torch.uint8)
    truth[:, :3] = 255
    result = evaluate(task, [(_images(4, 16), truth)])
    assert isinstance(result.evidence, ConfusionEvidence)
    assert result.name == "miou"
    assert set(result.others) == {"pixel_accuracy"}
    assert 0 < result.value == pytest.approx(result.evidence.score())


def test_evaluation_of_boxes_of_one_class_scores_as_its_evidence_does() -> None:
    torch.manual_seed(0)
    task = Detection(["ant"], (32, 32), score_threshold=0.0)
    targets = [
        {"boxes": torch.tensor([[4.0, 4, 20, 20]]), "labels": torch.tensor([0])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
    ]
    # What the network finds itself is the truth of a second image, so that the score is not 0.
    images = _images(3, 32)
    with torch.no_grad():
        found = task.eval().predict(task(images))[2]
    assert len(found["boxes"])
    targets.append({"boxes": found["boxes"][:2], "labels": found["labels"][:2]})
    result = evaluate(task, [(images, targets)])
    assert isinstance(result.evidence, BoxEvidence)
    assert result.num_images == 3
    assert 0 < result.value == pytest.approx(result.evidence.score(), abs=1e-6)
    assert result.per_class == pytest.approx({"ant": result.value})
    assert set(result.others) == {"map", "mar"}
