"""Ignored boxes have no part in losses, scores and evidence."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from regrow.metrics.evidence import BoxEvidence
from regrow.metrics.ignored import coverage, falls_on_ignored, is_covered, is_inside
from regrow.metrics.scores import MeanAP
from regrow.models.nets.fcos import build_fcos
from regrow.models.nets.torchvision_detectors import build_detector

Image = tuple[dict[str, Tensor], dict[str, Tensor]]
NUM_CLASSES = 2
SIZE = (96, 96)


def found(*rows: tuple[float, ...]) -> dict[str, Tensor]:
    """Detections from rows of corners, score and label."""
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
    return {"boxes": table[:, :4].float(), "scores": table[:, 4], "labels": table[:, 5].long()}


def truth(objects: Any, ignored: Any = ()) -> dict[str, Tensor]:
    """A target from rows of corners and label, and such rows with 1 for a crowd."""
    own = torch.tensor(objects, dtype=torch.float32).reshape(-1, 5)
    others = torch.tensor(ignored, dtype=torch.float32).reshape(-1, 6)
    return {
        "boxes": own[:, :4],
        "labels": own[:, 4].long(),
        "ignored_boxes": others[:, :4],
        "ignored_labels": others[:, 4].long(),
        "is_crowd": others[:, 5] == 1,
    }


def scores(images: list[Image]) -> tuple[float, float, float]:
    """`map50`, `map`, and the score of the evidence."""
    metric, evidence = MeanAP(NUM_CLASSES), BoxEvidence(NUM_CLASSES)
    batch = [list(side) for side in zip(*images, strict=True)]
    metric.update(*batch)
    evidence.update(*batch)
    values = metric.compute()
    return float(values["map50"]), float(values["map"]), evidence.score()


# Scores.


def test_what_is_found_on_a_difficult_object_is_neither_right_nor_wrong() -> None:
    # By hand: of two objects one is found first, after it comes a stray one and then the other:
    # precision 1 up to recall 1/2, then 2/3: (51 + 50 * 2/3) / 101. Three detections on the
    # difficult object, better than all, count for nothing, though it could take one alone.
    objects, difficult = [(0, 0, 10, 10, 0), (20, 0, 30, 10, 0)], [(40, 0, 50, 10, 0, 0)]
    counted = [(0, 0, 10, 10, 0.8, 0), (70, 70, 80, 80, 0.7, 0), (20, 0, 30, 10, 0.6, 0)]
    on_it = [(40, 0, 50, 10, 0.95, 0), (40, 0, 50, 11, 0.9, 0), (41, 0, 50, 10, 0.85, 0)]
    right = (51 + 50 * 2 / 3) / 101
    map50, _, evidence = scores([(found(*on_it, *counted), truth(objects, difficult))])
    assert map50 == pytest.approx(right)
    assert evidence == pytest.approx(right)
    # As any object it would be missed or found, and two would be wrong.
    as_object = [*objects, (40, 0, 50, 10, 0)]
    assert scores([(found(*on_it, *counted), truth(as_object))])[0] != pytest.approx(right)


def test_what_is_found_in_a_crowd_is_neither_right_nor_wrong() -> None:
    # Small boxes well within the crowd overlap it by 1/100 of the union, but lie in it.
    crowd = [(0, 0, 60, 60, 0, 1)]
    inside = [(n, n, n + 6, n + 6, 0.9 - n / 100, 0) for n in range(0, 50, 10)]
    map50, _, evidence = scores(
        [(found(*inside, (70, 70, 90, 90, 0.3, 0)), truth([(70, 70, 90, 90, 0)], crowd))]
    )
    assert (map50, evidence) == (1, 1)
    # By hand: the same on a difficult object of that size are five wrong before the right one.
    difficult = [(0, 0, 60, 60, 0, 0)]
    map50, _, evidence = scores(
        [(found(*inside, (70, 70, 90, 90, 0.3, 0)), truth([(70, 70, 90, 90, 0)], difficult))]
    )
    assert (map50, evidence) == (pytest.approx(1 / 6), pytest.approx(1 / 6))


def test_another_class_in_a_crowd_is_wrong() -> None:
    image = found((10, 10, 20, 20, 0.9, 1), (70, 70, 90, 90, 0.5, 1))
    target = truth([(70, 70, 90, 90, 1)], [(0, 0, 60, 60, 0, 1)])
    map50, _, evidence = scores([(image, target)])
    assert (map50, evidence) == (pytest.approx(0.5), pytest.approx(0.5))


def test_a_class_that_is_only_ignored_has_no_score() -> None:
    image = found((0, 0, 10, 10, 0.9, 0), (20, 20, 40, 40, 0.9, 1))
    target = truth([(0, 0, 10, 10, 0)], [(20, 20, 40, 40, 1, 0)])
    map50, _, evidence = scores([(image, target)])
    assert (map50, evidence) == (1, 1)
    collected = BoxEvidence(NUM_CLASSES)
    collected.update([image], [target])
    assert collected.images_by_class.tolist() == [1, 0]


def random_images(seed: int, num_images: int = 8) -> list[Image]:
    """Objects, difficult ones and crowds on a coarse grid, and detections near all of them."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(num_images):
        count = int(random.integers(0, 9))
        corners = random.integers(0, 10, (count, 2)) * 6
        boxes = np.concatenate([corners, corners + random.integers(2, 9, (count, 2)) * 4], 1)
        labels, marks = random.integers(0, NUM_CLASSES, count), random.integers(0, 4, count) % 3
        rows = np.concatenate([boxes, labels[:, None], marks[:, None] == 2], 1)
        near = random.integers(0, max(count, 1), 3 * count)
        moved = boxes[near] + random.integers(-4, 5, (len(near), 4))
        kinds = np.where(random.random(len(near)) < 0.8, labels[near], 0)
        stray = random.integers(0, 60, (3, 2))
        moved = np.concatenate([moved, np.concatenate([stray, stray + 5], 1)])
        kinds = np.concatenate([kinds, random.integers(0, NUM_CLASSES, 3)])
        # No ties of score, whose order is nobody's business.
        points = random.permutation(len(moved)) / len(moved)
        sound = (moved[:, 2:] > moved[:, :2]).all(1)
        found_rows = np.concatenate([moved, points[:, None], kinds[:, None]], 1)[sound]
        target = truth(rows[marks == 0][:, :5].tolist(), rows[marks > 0].tolist())
        images.append((found(*map(tuple, found_rows.tolist())), target))
    return images


def average_precision(images: list[Image], label: int, least: float) -> float:
    """COCO's evaluation with VOC's rule for difficult objects, one detection after the other."""
    outcomes, num_objects = [], 0
    for predicted, target in images:
        objects = [b for b, k in zip(target["boxes"], target["labels"], strict=True) if k == label]
        num_objects += len(objects)
        order = predicted["scores"].argsort(descending=True)
        free = set(range(len(objects)))
        for place in order.tolist():
            if predicted["labels"][place] != label:
                continue
            box, score = predicted["boxes"][place], float(predicted["scores"][place])
            overlaps = {
                i: float(box_iou(box[None].double(), objects[i][None].double())) for i in free
            }
            best = max(overlaps, key=lambda i: overlaps[i], default=None)
            if best is not None and overlaps[best] >= least:
                free.remove(best)
                outcomes.append((score, True))
                continue
            is_ignored = False
            for region, kind, is_crowd in zip(
                target["ignored_boxes"], target["ignored_labels"], target["is_crowd"], strict=True
            ):
                width = float(min(box[2], region[2]) - max(box[0], region[0]))
                height = float(min(box[3], region[3]) - max(box[1], region[1]))
                inner = max(width, 0.0) * max(height, 0.0)
                own = float((box[2] - box[0]) * (box[3] - box[1]))
                other = float((region[2] - region[0]) * (region[3] - region[1]))
                share = inner / own if is_crowd else inner / (own + other - inner)
                is_ignored |= bool(kind == label) and share >= least
            if not is_ignored:
                outcomes.append((score, False))
    if not num_objects:
        return float("nan")
    flags = [right for _, right in sorted(outcomes, key=lambda one: -one[0])]
    points, right = [], 0
    for rank, is_right in enumerate(flags, 1):
        right += is_right
        points.append((right / num_objects, right / rank))
    recalls = np.linspace(0, 1, 101)
    return float(np.mean([max((p for r, p in points if r >= w), default=0) for w in recalls]))


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_those_of_a_slow_evaluation(seed: int) -> None:
    images = random_images(seed)

    def slow(least: float) -> float:
        return float(np.nanmean([average_precision(images, k, least) for k in range(NUM_CLASSES)]))

    map50, whole, evidence = scores(images)
    assert map50 == pytest.approx(slow(0.5), abs=1e-6)
    assert evidence == pytest.approx(slow(0.5), abs=1e-6)
    assert whole == pytest.approx(
        np.mean([slow(least) for least in np.linspace(0.5, 0.95, 10)]), abs=1e-6
    )


def test_coverage_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 4], [8, 8, 8, 8]])
    regions = torch.tensor([[2.0, 0, 10, 10], [0, 0, 1, 1]])
    assert coverage(boxes, regions).tolist() == [[0.5, 1 / 16], [1, 0], [0, 0]]
    assert is_covered(boxes, regions).tolist() == [True, True, False]
    assert is_covered(boxes, regions[:0]).tolist() == [False] * 3
    assert is_inside(boxes[:, :2], regions).tolist() == [False, False, True]


def test_nothing_falls_on_ignored_boxes_where_there_are_none() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4]])
    plain = {"boxes": boxes, "labels": torch.tensor([0])}
    assert falls_on_ignored(boxes, plain, 0).tolist() == [False]
    assert falls_on_ignored(boxes, truth([]), 0).tolist() == [False]


# Losses.


NETS = {
    "own fcos": lambda: build_fcos(NUM_CLASSES, SIZE, levels=(4, 8)),
    "ssd": lambda: build_detector("ssdlite320_mobilenet_v3_large", NUM_CLASSES, SIZE),
    "retinanet": lambda: build_detector("retinanet_resnet50_fpn_v2", NUM_CLASSES, SIZE),
    "fcos": lambda: build_detector("fcos_resnet50_fpn", NUM_CLASSES, SIZE),
    "fasterrcnn": lambda: build_detector("fasterrcnn_mobilenet_v3_large_fpn", NUM_CLASSES, SIZE),
}
OBJECT = (10, 10, 40, 40, 0)
CROWDS = [(50, 4, 94, 92, 1, 1), (6, 6, 48, 48, 1, 0)]


@pytest.fixture(scope="module", params=list(NETS))
def trained(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    net = NETS[request.param]()
    images = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        raw = {name: value.clone() for name, value in net.eval()(images).items()}
    # Before training all logits are alike; here any place may be mistaken for an object.
    raw["cls_logits"] = torch.randn_like(raw["cls_logits"]) * 2
    return net, raw


def gradient(net: Any, raw: dict[str, Tensor], target: dict[str, Tensor]) -> tuple[float, Tensor]:
    """The loss, and its gradient by the logits of all places."""
    name = "objectness" if "objectness" in raw else "cls_logits"
    leaf = raw[name].clone().requires_grad_()
    torch.manual_seed(1)
    loss = torch.stack([*net.losses({**raw, name: leaf}, [target]).values()]).sum()
    (grad,) = torch.autograd.grad(loss, [leaf])
    return float(loss.detach()), grad[0].reshape(leaf.shape[1], -1).abs().sum(1)


def test_places_in_ignored_boxes_have_no_loss_as_background(trained: Any) -> None:
    net, raw = trained
    crowds, objects = torch.tensor(CROWDS)[:, :4], torch.tensor([OBJECT[:4]])
    if hasattr(net, "points"):
        within, of_object = is_inside(net.points, crowds), is_inside(net.points, objects)
    else:
        within = coverage(net.anchors, crowds.float()).amax(1) == 1
        of_object = coverage(net.anchors, objects.float())[:, 0] > 0
    spared = within & ~of_object
    if "objectness" not in raw:  # bad mistakes, which no mining of negatives would miss
        logits = raw["cls_logits"].clone()
        logits[0, spared, -1] = 9
        raw = {**raw, "cls_logits": logits}
    _, before = gradient(net, raw, truth([OBJECT]))
    _, after = gradient(net, raw, truth([OBJECT], CROWDS))
    assert (before[spared] > 0).any()
    assert not (after[spared] > 0).any()
    assert (after[~within] > 0).any()


def test_an_object_in_a_crowd_is_learnt(trained: Any) -> None:
    net, raw = trained
    _, alone = gradient(net, raw, truth([], CROWDS))
    _, grad = gradient(net, raw, truth([OBJECT], CROWDS))
    learnt = (alone == 0) & (grad > 0)
    assert learnt.any()
    if "objectness" not in raw:
        torch.manual_seed(1)
        boxes = net.losses(raw, [truth([OBJECT], CROWDS)])["bbox_regression"]
        assert boxes == net.losses(raw, [truth([OBJECT])])["bbox_regression"] > 0


def test_ignored_boxes_beyond_all_places_change_nothing(trained: Any) -> None:
    net, raw = trained
    far = [(0, 0, 0.01, 0.01, 0, 0)]
    plain = {name: value for name, value in truth([OBJECT]).items() if name in ("boxes", "labels")}
    loss, grad = gradient(net, raw, plain)
    same, same_grad = gradient(net, raw, truth([OBJECT], far))
    assert same == loss
    assert torch.equal(grad, same_grad)


def test_an_image_that_is_one_crowd_has_no_loss(trained: Any) -> None:
    net, raw = trained
    loss, grad = gradient(net, raw, truth([], [(-1e4, -1e4, 1e4, 1e4, 0, 1)]))
    assert loss == 0
    assert (grad == 0).all()
