import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetClassificationHead
from torchvision.models.detection.ssd import SSDHead

from regrow.errors import BadInput
from regrow.incremental.expand import expand_
from regrow.models.class_rows import ClassRows
from regrow.models.masks import mask_weights_, masks_of
from regrow.models.task import Task

MakeTask = Callable[[nn.Module, list[ClassRows], list[str]], Task]
EXACT = {"rtol": 0, "atol": 1e-12}


def _classifier(num_classes: int, width: int = 5) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, num_classes),
    ).double()  # fmt: skip


@pytest.mark.parametrize("width", [5, 1])  # as built, and pruned to one channel
def test_expand_keeps_old_logits_of_a_classifier(make_task: MakeTask, width: int) -> None:
    net = _classifier(3, width)
    task = make_task(net, [ClassRows("4")], ["a", "b", "c"])
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    before, weight, bias = net(images), net[4].weight.clone(), net[4].bias.clone()

    expand_(task, ["a", "b", "c", "d", "e"])

    after = net(images)
    assert after.shape == (4, 5)
    torch.testing.assert_close(after[:, :3], before, **EXACT)
    assert torch.equal(net[4].weight[:3], weight)
    assert torch.equal(net[4].bias[:3], bias)


def test_expand_keeps_old_logits_of_a_segmentation_head(make_task: MakeTask) -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 2, 1)).double()
    task = make_task(net, [ClassRows("1")], ["sky", "road"])
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    before = net(images)

    expand_(task, ["road", "tree", "sky"])

    after = net(images)
    assert after.shape == (2, 3, 8, 8)
    torch.testing.assert_close(after[:, [2, 0]], before, **EXACT)


def _ssd(num_classes: int) -> tuple[SSDHead, list[ClassRows]]:
    head = SSDHead([8, 4], [4, 6], num_classes + 1).double()
    names = ("classification_head.module_list.0", "classification_head.module_list.1")
    rows = [ClassRows(n, a, background=1) for n, a in zip(names, (4, 6), strict=True)]
    return head, rows


def test_expand_keeps_old_scores_and_boxes_of_an_ssd_head(make_task: MakeTask) -> None:
    # With three classes and a background the class count is 4, like the box regression's columns.
    head, rows = _ssd(3)
    task = make_task(head, rows, ["a", "b", "c"])
    features = [torch.randn(2, d, s, s, dtype=torch.float64) for d, s in ((8, 4), (4, 2))]
    before = head(features)

    expand_(task, ["c", "new", "a", "b"])

    after = head(features)
    boxes = 4 * 16 + 6 * 4
    assert after["cls_logits"].shape == (2, boxes, 5)
    assert torch.equal(after["bbox_regression"], before["bbox_regression"])
    old = before["cls_logits"]  # background, a, b, c
    torch.testing.assert_close(after["cls_logits"][..., [0, 3, 4, 1]], old, **EXACT)
    assert head.classification_head.num_columns == 5
    assert head.regression_head.num_columns == 4


def test_expand_keeps_old_scores_of_a_retinanet_head_and_its_prior(make_task: MakeTask) -> None:
    head = RetinaNetClassificationHead(8, 3, 2, prior_probability=0.01).double()
    task = make_task(head, [ClassRows("cls_logits", 3)], ["a", "b"])
    features = [torch.randn(1, 8, 4, 4, dtype=torch.float64)]
    before = head(features)

    expand_(task, ["a", "b", "c"])

    after = head(features)
    assert head.num_classes == 3
    torch.testing.assert_close(after[..., :2], before, **EXACT)
    prior = -math.log((1 - 0.01) / 0.01)  # Lin et al., Focal Loss, 2017, section 4.1
    assert head.cls_logits.bias.tolist() == pytest.approx([prior] * 9, abs=1e-6)
    assert after[..., 2].sigmoid().mean() < 0.05


def test_expand_keeps_boxes_that_each_class_has(make_task: MakeTask) -> None:
    predictor = FastRCNNPredictor(7, 3).double()
    rows = [
        ClassRows("cls_score", background=1),
        ClassRows("bbox_pred", background=1, rows_per_class=4),
    ]
    task = make_task(predictor, rows, ["a", "b"])
    features = torch.randn(5, 7, dtype=torch.float64)
    scores, boxes = predictor(features)

    expand_(task, ["new", "b", "a"])

    new_scores, new_boxes = predictor(features)
    order = [0, 3, 2]  # background, a, b
    torch.testing.assert_close(new_scores[:, order], scores, **EXACT)
    torch.testing.assert_close(new_boxes.view(5, 4, 4)[:, order], boxes.view(5, 3, 4), **EXACT)


def _coded(rows: ClassRows, names: list[str]) -> nn.Linear:
    """A layer whose rows spell (anchor, name, row); -1 is the background."""
    layer = nn.Linear(3, rows.num_rows(len(names))).double()
    entries = [-1.0] * rows.background + [float(ord(name)) for name in names]
    shape = (rows.num_anchors, len(entries), rows.rows_per_class)
    code = torch.stack(
        torch.meshgrid(
            torch.arange(shape[0]).double(),
            torch.tensor(entries).double(),
            torch.arange(shape[2]).double(),
            indexing="ij",
        ),
        dim=-1,
    )
    with torch.no_grad():
        layer.weight.copy_(code.reshape(-1, 3))
        layer.bias.copy_(code.reshape(-1, 3) @ torch.tensor([1.0, 10.0, 100.0]).double())
    return layer


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    num_anchors=st.integers(1, 3),
    background=st.integers(0, 2),
    rows_per_class=st.integers(1, 3),
    old=st.lists(st.sampled_from("abcdef"), unique=True, min_size=1),
    new=st.lists(st.sampled_from("abcdefxyz"), unique=True, min_size=1),
)
def test_every_row_goes_where_its_name_stands(
    make_task: MakeTask,
    num_anchors: int,
    background: int,
    rows_per_class: int,
    old: list[str],
    new: list[str],
) -> None:
    rows = ClassRows("0", num_anchors, background, rows_per_class)
    net = nn.Sequential(_coded(rows, old))
    expand_(make_task(net, [rows], old), new, removed=[name for name in old if name not in new])
    weight = net[0].weight.detach().reshape(num_anchors, background + len(new), rows_per_class, 3)
    bias = net[0].bias.detach().reshape(weight.shape[:3])
    names = [-1.0] * background + [float(ord(n)) if n in old else None for n in new]
    for anchor in range(num_anchors):
        for place, name in enumerate(names):
            for row in range(rows_per_class):
                if name is not None:
                    expected = [anchor, name, row]
                else:
                    # New weights are small; the bias is the mean of the old classes'.
                    assert weight[anchor, place, row].abs().max() <= 1 / math.sqrt(3)
                    mean = sum(anchor + 10 * ord(n) + 100 * row for n in old) / len(old)
                    assert bias[anchor, place, row].item() == pytest.approx(mean)
                    continue
                assert weight[anchor, place, row].tolist() == expected
                assert bias[anchor, place, row] == anchor + 10 * name + 100 * row


def test_renamed_class_keeps_its_row_and_removed_one_loses_it(make_task: MakeTask) -> None:
    net = _classifier(3)
    task = make_task(net, [ClassRows("4")], ["a", "b", "c"])
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    before = net(images)

    expand_(task, ["c", "z"], renamed={"a": "z"}, removed=["b"])

    torch.testing.assert_close(net(images), before[:, [2, 0]], **EXACT)
    assert net[4].out_features == 2


def test_same_classes_change_nothing(make_task: MakeTask) -> None:
    net = _classifier(2)
    weight = net[4].weight
    expand_(make_task(net, [ClassRows("4")], ["a", "b"]), ["z", "b"], renamed={"a": "z"})
    assert net[4].weight is weight


def test_task_knows_its_new_classes(make_task: MakeTask) -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False))
    task = make_task(net, [ClassRows("0")], ["a", "b"])
    label_map = expand_(task, ["a", "b", "c"])
    assert label_map.added == ["c"]
    assert task.classes == ["a", "b", "c"]
    assert task.hparams["classes"] == ["a", "b", "c"]
    assert task.arguments()["classes"] == ["a", "b", "c"]
    assert task.metric.num_classes == 3
    assert (net[0].out_channels, net[0].bias) == (3, None)


class Counting(nn.Module):
    def __init__(self, num_classes: int, other: int) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, num_classes
        self.head = nn.Linear(2, num_classes)
        self.other = nn.Identity()
        self.other.num_classes = other
        self.flag = nn.Identity()
        self.flag.num_classes = True


def test_class_counts_that_modules_keep_follow(make_task: MakeTask) -> None:
    net = Counting(3, other=1000)
    expand_(make_task(net, [ClassRows("head")], ["a", "b", "c"]), ["a", "b", "c", "d"])
    assert net.num_classes == 4
    assert net.num_features == 3
    assert net.other.num_classes == 1000
    assert net.flag.num_classes is True
    with_background = Counting(3, other=2)
    rows = [ClassRows("head", background=1)]
    expand_(make_task(with_background, rows, ["a", "b"]), ["a", "b", "c"])
    assert (with_background.num_classes, with_background.other.num_classes) == (4, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtype_device_and_frozen_state_are_kept(make_task: MakeTask, dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Conv2d(2, 2, 1).to(dtype))
    net[0].bias.requires_grad_(False)
    old = net[0].weight.clone()
    expand_(make_task(net, [ClassRows("0")], ["a", "b"]), ["a", "b", "c"])
    assert net[0].weight.dtype == net[0].bias.dtype == dtype
    assert net[0].weight.device == old.device
    assert net[0].weight.requires_grad
    assert not net[0].bias.requires_grad
    assert torch.equal(net[0].weight[:2], old)
    assert net[0].weight.is_leaf


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_expand_on_a_gpu(make_task: MakeTask) -> None:
    net = _classifier(2).cuda()
    old = net[4].weight.clone()
    expand_(make_task(net, [ClassRows("4")], ["a", "b"]), ["a", "b", "c"])
    assert net[4].weight.is_cuda
    assert torch.equal(net[4].weight[:2], old)


def test_new_rows_are_a_function_of_the_seed_alone(make_task: MakeTask) -> None:
    net = _classifier(2)
    copies = []
    for seed in (0, 0, 1):
        grown = copy.deepcopy(net)
        torch.rand(1)  # moves the global generator, which must not matter
        state = torch.get_rng_state()
        expand_(make_task(grown, [ClassRows("4")], ["a", "b"]), ["a", "b", "c"], seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        copies.append(grown[4].weight[2].detach())
    assert torch.equal(copies[0], copies[1])
    assert not torch.equal(copies[0], copies[2])


def test_new_rows_are_spread_as_those_of_a_new_layer(make_task: MakeTask) -> None:
    net = nn.Sequential(nn.Linear(64, 2))
    with torch.no_grad():
        net[0].weight.mul_(100)  # trained rows may be of any size
    names = ["a", "b", *map(str, range(500))]
    expand_(make_task(net, [ClassRows("0")], ["a", "b"]), names)
    fresh = nn.Linear(64, 500)
    assert net[0].weight[2:].std().item() == pytest.approx(fresh.weight.std().item(), rel=0.05)
    assert net[0].weight[2:].mean().abs() < 0.01


def _grouped() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 2, 1, groups=2))


def _parametrized() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.Linear(2, 3)), "0 has 3 rows, but 2 classes in its layout make 2"),
        (nn.Sequential(nn.BatchNorm1d(2)), "0 is a BatchNorm1d; only Linear and Conv"),
        (_grouped(), "0 has 2 groups"),
        (_parametrized(), "0 has a parametrized weight"),
    ],
)
def test_layer_that_cannot_grow_is_named_and_nothing_changes(
    make_task: MakeTask, net: nn.Module, message: str
) -> None:
    good = nn.Linear(2, 2)
    whole = nn.Sequential(net[0], good)
    task = make_task(whole, [ClassRows("1"), ClassRows("0")], ["a", "b"])
    with pytest.raises(ValueError, match=message):
        expand_(task, ["a", "b", "c"])
    assert good.out_features == 2
    assert task.classes == ["a", "b"]


def test_missing_class_changes_nothing(make_task: MakeTask) -> None:
    net = _classifier(2)
    task = make_task(net, [ClassRows("4")], ["a", "b"])
    with pytest.raises(BadInput, match="the data has no class 'b'"):
        expand_(task, ["a", "c"])
    assert task.classes == ["a", "b"]
    assert net[4].out_features == 2


def test_gradients_reach_new_and_old_rows(make_task: MakeTask) -> None:
    net = _classifier(2)
    expand_(make_task(net, [ClassRows("4")], ["a", "b"]), ["a", "b", "c"])
    scores: Tensor = net(torch.randn(4, 3, 8, 8, dtype=torch.float64))
    scores.square().sum().backward()
    assert (net[4].weight.grad.abs().sum(1) > 0).all()


def test_kept_rows_keep_their_masks_and_new_rows_have_none(make_task) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3))
    task = make_task(net, [ClassRows("2")], ["a", "b", "c"])
    masks = {name: torch.rand(p.shape) < 0.5 for name, p in net.named_parameters() if p.ndim > 1}
    mask_weights_(net, masks)
    old, bias = net[2].weight.detach().clone(), net[2].bias.detach().clone()
    expand_(task, ["new", "c", "a"], removed=["b"])
    found = masks_of(net)
    assert torch.equal(found["0.weight"], masks["0.weight"])
    assert found["2.weight"][0].all()
    assert torch.equal(found["2.weight"][1:], masks["2.weight"][[2, 0]])
    assert torch.equal(net[2].weight[1:], old[[2, 0]])
    assert net[2].weight[0].count_nonzero() == old.shape[1]
    torch.testing.assert_close(net[2].bias, torch.stack([bias.mean(), bias[2], bias[0]]))


@pytest.mark.parametrize("new_rows", ["mean", "imprint"])
def test_new_rows_can_begin_as_the_mean_of_the_old_classes(make_task: MakeTask, new_rows) -> None:
    net = _classifier(3)
    task = make_task(net, [ClassRows("4")], ["a", "b", "c"])
    old, bias = net[4].weight.detach().clone(), net[4].bias.detach().clone()
    expand_(task, ["new", "c", "a", "other"], removed=["b"], new_rows=new_rows)
    mean = (old[0] + old[1] + old[2]) / 3
    torch.testing.assert_close(net[4].weight, torch.stack([mean, old[2], old[0], mean]), **EXACT)
    torch.testing.assert_close(net[4].bias[[0, 3]], bias.mean().expand(2), **EXACT)
    assert torch.equal(net[4].weight[1:3], old[[2, 0]])
    assert net[4].weight.requires_grad


def test_each_anchor_has_a_mean_of_its_own_without_the_background(make_task: MakeTask) -> None:
    head, rows = _ssd(2)
    task = make_task(head, rows, ["a", "b"])
    layers = [head.classification_head.module_list[place] for place in (0, 1)]
    before = [layer.weight.detach().clone() for layer in layers]
    expand_(task, ["b", "new", "a"], new_rows="mean")
    for layer, old, num_anchors in zip(layers, before, (4, 6), strict=True):
        for anchor in range(num_anchors):
            background, a, b = old[3 * anchor : 3 * anchor + 3]
            wanted = torch.stack([background, b, (a + b) / 2, a])
            torch.testing.assert_close(layer.weight[4 * anchor : 4 * anchor + 4], wanted, **EXACT)


def test_each_side_of_a_box_has_a_mean_of_its_own(make_task: MakeTask) -> None:
    predictor = FastRCNNPredictor(7, 3).double()
    rows = [ClassRows("bbox_pred", background=1, rows_per_class=4)]
    old = predictor.bbox_pred.weight.detach().clone().view(3, 4, 7)
    expand_(make_task(predictor, rows, ["a", "b"]), ["a", "b", "new"], new_rows="mean")
    weight = predictor.bbox_pred.weight.view(4, 4, 7)
    torch.testing.assert_close(weight[3], (old[1] + old[2]) / 2, **EXACT)


def test_what_is_masked_counts_as_zero_in_a_mean_that_has_no_mask(make_task: MakeTask) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
    task = make_task(net, [ClassRows("1")], ["a", "b"])
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[2.0, 4, 6, 8], [10, 20, 30, 40]]))
    kept = torch.tensor([[True, False, True, False], [True, True, False, False]])
    mask_weights_(net, {"1.weight": kept})
    expand_(task, ["a", "b", "new"], new_rows="mean")
    assert net[1].weight[2].tolist() == [6, 10, 3, 0]
    found = masks_of(net)["1.weight"]
    assert torch.equal(found[:2], kept)
    assert found[2].all()
