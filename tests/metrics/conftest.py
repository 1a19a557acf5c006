"""Evidence of labels, masks and boxes at random, for tests of scores and of intervals."""

from typing import Any

import pytest
import torch
from torch import Tensor

from regrow.metrics.evidence import BoxEvidence, ConfusionEvidence, CorrectEvidence, Evidence

Image = tuple[Any, Any]


class Make:
    """Makers of evidence and of what it is collected from."""

    @staticmethod
    def correct(flags: Tensor) -> CorrectEvidence:
        evidence = CorrectEvidence()
        # Class 0 is the truth; a wrong image is taken for class 1.
        predictions = torch.stack([flags.float(), 1 - flags.float()], 1)
        evidence.update(predictions, torch.zeros(len(flags), dtype=torch.long))
        return evidence

    @staticmethod
    def masks(seed: int, num_images: int = 8) -> tuple[Tensor, Tensor]:
        generator = _generator(seed)
        truth = torch.randint(0, 3, (num_images, 6, 5), generator=generator)
        void = torch.rand(truth.shape, generator=generator) < 0.2
        predicted = torch.randint(0, 4, truth.shape, generator=generator)
        return predicted.to(torch.uint8), truth.masked_fill(void, 255).to(torch.uint8)

    @staticmethod
    def boxes(seed: int, num_images: int = 6, num_classes: int = 3) -> list[Image]:
        """Return objects and detections on a coarse grid, with ties of score and of overlap."""
        generator = _generator(seed)
        images = []
        for number in range(num_images):
            num_objects = 0 if number == 0 else int(torch.randint(0, 6, (), generator=generator))
            corners = torch.randint(0, 6, (num_objects, 2), generator=generator).float() * 4
            sizes = torch.randint(1, 4, (num_objects, 2), generator=generator).float() * 4
            objects = torch.cat([corners, corners + sizes], 1)
            labels = torch.randint(0, num_classes, (num_objects,), generator=generator)
            copies = torch.randint(0, max(num_objects, 1), (2 * num_objects,), generator=generator)
            shifts = torch.randint(-1, 2, (len(copies), 4), generator=generator) * 2.0
            found = objects[copies] + shifts
            stray = torch.randint(0, 20, (int(number % 3), 2), generator=generator).float()
            found = torch.cat([found, torch.cat([stray, stray + 6], 1)])
            found = found[(found[:, 2:] > found[:, :2]).all(1)]
            kinds = torch.randint(0, num_classes, (len(found),), generator=generator)
            # Most detections have the class of the object they were made from.
            near = (found[:, None] - objects[None]).abs().sum(2) if num_objects else None
            if near is not None and len(found):
                own = labels[near.argmin(1)]
                keep = torch.rand(len(found), generator=generator) < 0.7
                kinds = own.where(keep, kinds)
            scores = torch.randint(1, 8, (len(found),), generator=generator) / 8
            images.append(
                (
                    {"boxes": found, "scores": scores, "labels": kinds},
                    {"boxes": objects, "labels": labels},
                )
            )
        return images

    @staticmethod
    def box_evidence(images: list[Image], num_classes: int = 3) -> BoxEvidence:
        evidence = BoxEvidence(num_classes)
        for found, truth in images:
            evidence.update([found], [truth])
        return evidence

    @staticmethod
    def evidences(kind: str) -> tuple[Evidence, Any]:
        """Return evidence of some images, and what gives evidence of a list of their numbers."""
        if kind == "labels":
            flags = torch.rand(8, generator=_generator(2)) < 0.6
            return Make.correct(flags), lambda numbers: Make.correct(flags[numbers])
        if kind == "masks":
            predicted, truth = Make.masks(3)

            def confusion(numbers: list[int]) -> Evidence:
                evidence = ConfusionEvidence(5)
                evidence.update(predicted[numbers], truth[numbers])
                return evidence

            return confusion(list(range(8))), confusion
        images = Make.boxes(4, 8)
        # Scores of their own, since the order of ties is the order of images.
        for number, (found, _) in enumerate(images):
            found["scores"] = (
                found["scores"] - torch.arange(len(found["scores"])) / 500 - number / 9000
            )
        return Make.box_evidence(images), lambda numbers: Make.box_evidence(
            [images[n] for n in numbers]
        )


@pytest.fixture
def make() -> type[Make]:
    return Make


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
