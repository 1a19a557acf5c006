"""What becomes of old weights, against each source's formula by hand."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.incremental.expand import expand_
from regrow.incremental.warm_init import dash_, shrink_perturb_
from regrow.models.classification import Classification
from regrow.models.masks import mask_weights_, masks_of
from regrow.models.nets.small import SmallClassifier
from regrow.models.record.structure import rebuild_

SIZE = (16, 16)


class Tiny(nn.Module):
    """One layer of each kind: a kernel, a depthwise kernel, a 1x1, a linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.kernel = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.point = nn.Conv2d(4, 6, 1)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(6, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.point(F.relu(self.depthwise(self.norm(self.kernel(images)))))
        return self.head(self.dropout(F.relu(maps)).mean((2, 3)))


def tiny() -> Classification:
    torch.manual_seed(3)
    task = Classification(["a", "b", "c"], (6, 6))
    task.net = Tiny(3)
    return task


def batches(count: int, size: int = 6, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randint(0, 256, (5, 3, size, size), generator=generator, dtype=torch.uint8),
            torch.randint(0, 3, (5,), generator=generator),
        )
        for _ in range(count)
    ]


def parameters(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.named_parameters()}


@pytest.fixture
def small() -> Classification:
    torch.manual_seed(5)
    task = Classification(["a", "b", "c"], SIZE, net_args={"width": 4})
    with torch.no_grad():
        for parameter in task.net.parameters():
            parameter.add_(torch.randn_like(parameter))
    return task


# Shrink and perturb.


def test_shrink_and_perturb_is_a_sum_of_old_and_fresh_weights(small: Classification) -> None:
    old, buffers = parameters(small.net), dict(small.net.named_buffers())
    stay = {name: value.clone() for name, value in buffers.items()}
    torch.manual_seed(11)
    fresh = SmallClassifier(3, 4)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    shrink_perturb_(small, 0.4, 0.1, seed=11)
    assert torch.equal(torch.get_rng_state(), state)
    for name, drawn in fresh.named_parameters():
        wanted = 0.4 * old[name] + 0.1 * drawn.detach()
        torch.testing.assert_close(small.net.get_parameter(name).detach(), wanted)
    assert all(torch.equal(buffers[name], value) for name, value in stay.items())


def test_fresh_weights_are_a_function_of_the_seed_alone(small: Classification) -> None:
    found = []
    for seed in (1, 1, 2):
        task = copy.deepcopy(small)
        torch.rand(3)
        shrink_perturb_(task, 0.4, 0.1, seed=seed)
        found.append(parameters(task.net)["stem.0.weight"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_all_kept_and_nothing_added_is_the_same_network(small: Classification) -> None:
    old = parameters(small.net)
    shrink_perturb_(small, 1, 0)
    assert all(torch.equal(p, old[name]) for name, p in small.net.named_parameters())


def test_a_head_that_has_grown_gets_fresh_rows_for_all_its_classes(small: Classification) -> None:
    expand_(small, ["a", "new", "b", "c"])
    old = parameters(small.net)
    torch.manual_seed(2)
    fresh = SmallClassifier(4, 4)
    shrink_perturb_(small, 0.5, 0.2, seed=2)
    wanted = 0.5 * old["head.weight"] + 0.2 * fresh.head.weight.detach()
    torch.testing.assert_close(small.net.get_parameter("head.weight").detach(), wanted)


def _masked(task: Classification) -> dict[str, Tensor]:
    kept = {
        name: torch.rand(p.shape) < 0.5 for name, p in task.net.named_parameters() if p.ndim > 1
    }
    mask_weights_(task.net, kept)
    return kept


def test_masked_weights_stay_zero_and_masked(small: Classification) -> None:
    kept = _masked(small)
    shrink_perturb_(small, 0.4, 0.1)
    for name, mask in masks_of(small.net).items():
        assert torch.equal(mask, kept[name])
        weight = small.net.get_parameter(name)
        assert (weight[~mask] == 0).all()
        assert (weight[mask] != 0).all()


def test_a_pruned_network_is_perturbed_by_a_part_of_a_fresh_one() -> None:
    torch.manual_seed(5)
    task = Classification(["a", "b", "c"], SIZE, net_args={"width": 4})
    # The linear layer of 16 inputs has lost all but nine.
    record = {"attributes": {"head": {"in_features": 9}}, "shapes": {"head.weight": [3, 9]}}
    rebuild_(task.net, record)
    with torch.no_grad():
        task.net.get_parameter("head.weight").normal_()
    old = parameters(task.net)
    torch.manual_seed(4)
    fresh = SmallClassifier(3, 4)
    shrink_perturb_(task, 0.4, 0.1, seed=4)
    # Fewer inputs, larger weights: the sum keeps its variance.
    drawn = fresh.head.weight.detach()[:, :9] * math.sqrt(16 / 9)
    weight = task.net.get_parameter("head.weight").detach()
    torch.testing.assert_close(weight, 0.4 * old["head.weight"] + 0.1 * drawn)
    stem = task.net.get_parameter("stem.0.weight").detach()
    wanted = 0.4 * old["stem.0.weight"] + 0.1 * fresh.stem[0].weight.detach()
    torch.testing.assert_close(stem, wanted)


@pytest.mark.parametrize(
    ("shrink", "perturb", "message"),
    [
        (-0.1, 0, r"shrink is -0\.1, it must lie in \[0, 1\]"),
        (1.1, 0, r"shrink is 1\.1"),
        (math.nan, 0, "shrink is nan"),
        (0.4, -1, "perturb is -1, it must be 0 or more"),
        (0.4, math.nan, "perturb is nan"),
    ],
)
def test_shares_out_of_range_are_refused_and_nothing_changes(
    small: Classification, shrink: float, perturb: float, message: str
) -> None:
    old = parameters(small.net)
    with pytest.raises(BadInput, match=message):
        shrink_perturb_(small, shrink, perturb)
    assert all(torch.equal(p, old[name]) for name, p in small.net.named_parameters())


# DASH.


def _angles(task: Classification, given: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Return what each weight is multiplied with, before it is bounded, by loops in float64."""
    task = copy.deepcopy(task).double().eval()
    average: dict[str, Tensor] = {}
    for images, labels in given:
        task.net.zero_grad()
        # In place of the task's own normalisation and loss.
        colours = (images.double() / 255 - task.mean) / task.std
        F.cross_entropy(task.net(colours), labels).backward()
        for name, p in task.net.named_parameters():
            if p.ndim > 1:
                assert p.grad is not None
                average[name] = 0.7 * average.get(name, torch.zeros_like(p)) + 0.3 * p.grad
    factors = {}
    for name, grad in average.items():
        weight = task.net.get_parameter(name).detach()
        cosines = torch.zeros_like(weight)
        is_kernel = weight.ndim == 4 and weight.shape[2] * weight.shape[3] > 1
        for row in range(weight.shape[0]):
            parts = [(row, column) for column in range(weight.shape[1])] if is_kernel else [(row,)]
            for place in parts:
                w, g = weight[place].flatten().tolist(), grad[place].flatten().tolist()
                product = -sum(a * b for a, b in zip(w, g, strict=True))
                # Behind a ReLU that never fires there is no way downhill.
                cosines[place] = product / math.hypot(*w) / (math.hypot(*g) or 1)
        factors[name] = cosines
    return factors


@pytest.mark.parametrize("num_batches", [1, 3])
def test_dash_multiplies_with_the_cosine_to_the_way_downhill(num_batches: int) -> None:
    task, given = tiny(), batches(num_batches)
    old, angles = parameters(task.net), _angles(task, given)
    assert {name.split(".")[0] for name in angles} == {"kernel", "depthwise", "point", "head"}
    found = torch.cat([cosine.flatten() for cosine in angles.values()])
    assert found.min() < -0.3
    assert found.max() > 0.3
    dash_(task, iter(given), 0.25)
    for name, parameter in task.net.named_parameters():
        factor = angles[name].clamp(0.25, 1).float() if name in angles else 1.0
        torch.testing.assert_close(parameter.detach(), old[name] * factor, rtol=1e-4, atol=1e-6)


def test_dash_asks_for_the_direction_of_gradients_and_not_for_their_size() -> None:
    class Mild(Classification):
        def losses(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
            return {"ce": 1e-9 * super().losses(outputs, targets)["ce"]}

    task, mild = tiny(), tiny()
    mild.__class__ = Mild
    dash_(task, batches(2), 0.3)
    dash_(mild, batches(2), 0.3)
    for name, parameter in task.net.named_parameters():
        torch.testing.assert_close(mild.net.get_parameter(name), parameter, rtol=1e-4, atol=1e-6)


def test_dash_of_one_is_the_identity() -> None:
    task = tiny()
    old = parameters(task.net)
    dash_(task, batches(2), 1)
    assert all(torch.equal(p, old[name]) for name, p in task.net.named_parameters())


def test_dash_leaves_all_but_the_weights_as_it_was() -> None:
    task = tiny()
    task.net.train()
    task.net.norm.eval()  # type: ignore[union-attr]
    task.net.get_parameter("head.weight").requires_grad_(False)
    modes = [module.training for module in task.net.modules()]
    state, buffers = torch.get_rng_state(), copy.deepcopy(dict(task.net.named_buffers()))
    angles = _angles(_thawed(task), batches(1))
    old = parameters(task.net)
    dash_(task, batches(1), 0.3)
    assert [module.training for module in task.net.modules()] == modes
    assert [n for n, p in task.net.named_parameters() if not p.requires_grad] == ["head.weight"]
    assert all(p.grad is None for p in task.net.parameters())
    assert all(torch.equal(b, buffers[name]) for name, b in task.net.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)
    # A frozen layer is shrunk like any other.
    wanted = old["head.weight"] * angles["head.weight"].clamp(0.3, 1).float()
    torch.testing.assert_close(task.net.get_parameter("head.weight"), wanted, rtol=1e-4, atol=1e-6)


def _thawed(task: Classification) -> Classification:
    task = copy.deepcopy(task)
    task.net.requires_grad_(True)
    return task


def test_dash_works_where_gradients_are_off() -> None:
    task, plain = tiny(), tiny()
    dash_(plain, batches(1), 0.3)
    with torch.no_grad():
        dash_(task, batches(1), 0.3)
    assert torch.equal(
        task.net.get_parameter("kernel.weight"), plain.net.get_parameter("kernel.weight")
    )


def test_dash_keeps_masked_weights_zero(small: Classification) -> None:
    kept = _masked(small)
    dash_(small, batches(1, 16), 0.3)
    for name, mask in masks_of(small.net).items():
        assert torch.equal(mask, kept[name])
        assert (small.net.get_parameter(name)[~mask] == 0).all()
        assert small.net.get_parameter(name).isfinite().all()


def test_dash_shrinks_what_the_loss_does_not_depend_on_as_far_as_may_be() -> None:
    task = tiny()
    task.net.extra = nn.Linear(2, 2)  # nobody calls it
    old = parameters(task.net)
    dash_(task, batches(1), 0.3)
    torch.testing.assert_close(
        task.net.get_parameter("extra.weight").detach(), 0.3 * old["extra.weight"]
    )


@pytest.mark.parametrize("given", [[], iter(())])
def test_dash_without_images_is_refused(given: Any) -> None:
    task = tiny()
    old = parameters(task.net)
    with pytest.raises(BadInput, match="warm_init dash needs training images, and there are none"):
        dash_(task, given, 0.3)
    assert all(torch.equal(p, old[name]) for name, p in task.net.named_parameters())


def test_dash_refuses_a_share_out_of_range_before_it_looks_at_images() -> None:
    def images() -> Iterator[tuple[Tensor, Tensor]]:
        raise AssertionError("looked")
        yield

    with pytest.raises(BadInput, match=r"shrink is 2, it must lie in \[0, 1\]"):
        dash_(tiny(), images(), 2)
