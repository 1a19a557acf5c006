"""Model quality is that of scikit-learn and of regrow's own metrics."""

import base64
import io
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import fbeta_score, precision_score, recall_score

from regrow.errors import BadInput
from regrow.metrics.scores import MeanAP, MeanIoU
from regrow.monitor import quality as module
from regrow.monitor.quality import Quality

CLASSES = ["a", "b", "c"]


def _labelled(count: int) -> tuple[Quality, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    truth = draw.choice(3, count, p=[0.6, 0.3, 0.1])
    found = np.where(draw.random(count) < 0.7, truth, draw.integers(0, 2, count))
    quality = Quality("labels", CLASSES)
    for one, other in zip(found, truth, strict=True):
        quality.add({"label": CLASSES[one]}, CLASSES[other])
    return quality, found, truth


def test_classification_is_scikit_learn_s() -> None:
    quality, found, truth = _labelled(500)
    block = quality.statistics()["multiclass_classification_metrics"]
    options: dict[str, Any] = {"average": "weighted", "zero_division": 0}
    expected = {
        "accuracy": (found == truth).mean(),
        "weighted_recall": recall_score(truth, found, **options),
        "weighted_precision": precision_score(truth, found, **options),
        "weighted_f0_5": fbeta_score(truth, found, beta=0.5, **options),
        "weighted_f1": fbeta_score(truth, found, beta=1, **options),
        "weighted_f2": fbeta_score(truth, found, beta=2, **options),
    }
    for name, value in expected.items():
        assert block[name]["value"] == pytest.approx(value)
        # Of a proportion, the deviation is known.
        assert 0 < block[name]["standard_deviation"] < 0.05
    sd = np.sqrt(expected["accuracy"] * (1 - expected["accuracy"]) / 500)
    assert block["accuracy"]["standard_deviation"] == pytest.approx(sd, rel=0.15)
    assert block["confusion_matrix"]["a"]["b"] == ((truth == 0) & (found == 1)).sum()
    made = quality.to_dict(1000)
    interval = binomtest(int((found == truth).sum()), 500).proportion_ci(0.95, "exact")
    assert made["interval"] == pytest.approx((interval.low, interval.high))
    assert (made["name"], made["coverage"], made["num_labels"]) == ("accuracy", 0.5, 500)


def test_a_few_labels_have_no_deviation() -> None:
    block = _labelled(50)[0].statistics()["multiclass_classification_metrics"]
    assert block["accuracy"]["standard_deviation"] == "NaN"


def test_detection_is_our_own_mean_ap() -> None:
    draw, quality, metric = np.random.default_rng(0), Quality("boxes", CLASSES), MeanAP(3)
    for _ in range(40):
        corners = draw.uniform(0, 60, (3, 2))
        truth: Any = [
            (CLASSES[n], (x, y, x + 20, y + 20)) for n, (x, y) in enumerate(corners.tolist())
        ]
        moved = [np.array(box) + draw.normal(0, 3) for _, box in truth]
        objects = [
            {"label": CLASSES[n], "score": float(draw.random()), "box": box.tolist()}
            for n, box in enumerate(moved)
        ]
        quality.add({"objects": objects}, truth)
        metric.update(
            [
                {
                    "boxes": torch.tensor(np.array(moved), dtype=torch.float32),
                    "scores": torch.tensor([one["score"] for one in objects]),
                    "labels": torch.arange(3),
                }
            ],
            [
                {
                    "boxes": torch.tensor([box for _, box in truth], dtype=torch.float32),
                    "labels": torch.arange(3),
                }
            ],
        )
    made = quality.to_dict(40)
    assert made["name"] == "map50"
    assert made["value"] == pytest.approx(float(metric.compute()["map50"]), abs=1e-6)
    assert made["interval"][0] < made["value"] < made["interval"][1]
    assert set(quality.statistics()) == {"object_detection_metrics"}


def test_segmentation_is_our_own_mean_iou() -> None:
    draw, quality, metric = np.random.default_rng(0), Quality("masks", CLASSES), MeanIoU(3)
    for _ in range(20):
        truth = draw.choice([0, 1, 2, 255], (6, 5))
        found = np.where(draw.random((6, 5)) < 0.7, truth % 3, 0).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(found).save(file, "PNG")
        quality.add({"mask": base64.b64encode(file.getvalue()).decode()}, truth)
        metric.update(torch.from_numpy(found)[None], torch.from_numpy(truth)[None])
    made = quality.to_dict(20)
    assert made["name"] == "miou"
    assert made["value"] == pytest.approx(float(metric.compute()["miou"]))
    assert made["interval"][0] < made["value"] < made["interval"][1]
    assert set(quality.statistics()) == {"segmentation_metrics"}


def _boxes(count: int) -> Quality:
    quality, draw = Quality("boxes", CLASSES), np.random.default_rng(0)
    for _ in range(count):
        box = {"label": "a", "score": float(draw.random()), "box": [0, 0, 10, 10]}
        quality.add({"objects": [box]}, [("a" if draw.random() < 0.7 else "b", (0, 0, 10, 10))])
    return quality


@pytest.mark.parametrize("made", [_boxes, lambda count: _labelled(count)[0]])
def test_sets_of_the_bootstrap_are_drawn_in_parts(
    made: Callable[[int], Quality], monkeypatch: pytest.MonkeyPatch
) -> None:
    quality = made(300)
    whole = (quality.statistics(), quality.to_dict(300))
    monkeypatch.setattr(module, "MAX_DRAWN", 2000)
    assert (quality.statistics(), quality.to_dict(300)) == whole


def test_memory_of_the_bootstrap_does_not_grow_with_the_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quality = _boxes(4000)
    monkeypatch.setattr(module, "MAX_DRAWN", 20_000)
    tracemalloc.start()
    quality.to_dict(4000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000 < 400 * 4000 * 8


def test_no_label_has_no_score() -> None:
    quality = Quality("labels", CLASSES)
    made = quality.to_dict(0)
    assert (made["value"], made["interval"], made["coverage"]) == (None, None, None)
    assert quality.statistics() == {}


def test_a_prediction_that_does_not_fit_is_refused() -> None:
    quality = Quality("labels", CLASSES)
    with pytest.raises(BadInput, match="another kind or size"):
        quality.add({"label": "z"}, "a")
    assert quality.to_dict(1)["num_labels"] == 0


@pytest.mark.parametrize("kind", ["labels", "boxes", "masks"])
def test_the_order_in_which_pictures_come_makes_no_difference(kind: str) -> None:
    draw, pictures = np.random.default_rng(0), list[tuple[dict[str, Any], Any]]()
    for _ in range(30):
        if kind == "labels":
            pictures.append(({"label": CLASSES[draw.integers(3)]}, CLASSES[draw.integers(3)]))
        elif kind == "boxes":
            score, left = float(draw.integers(2, 4)) / 4, float(draw.integers(9))
            found = {"label": CLASSES[0], "score": score, "box": [left, 0, left + 10, 10]}
            pictures.append(({"objects": [found]}, [(CLASSES[0], (4.0, 0.0, 14.0, 10.0))]))
        else:
            file, mask = io.BytesIO(), draw.integers(0, 3, (4, 5)).astype(np.uint8)
            Image.fromarray(mask).save(file, "PNG")
            answer = {"mask": base64.b64encode(file.getvalue()).decode()}
            pictures.append((answer, draw.integers(0, 3, (4, 5))))
    found = []
    for order in (range(30), draw.permutation(30).tolist()):
        quality = Quality(kind, CLASSES)
        for number in order:
            quality.add(*pictures[number], key=number * 7919 % 31)
        found.append((quality.to_dict(60), quality.statistics()))
    assert found[0] == found[1]
