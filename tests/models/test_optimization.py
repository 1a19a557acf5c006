"""The rate at points worked by hand, and which weights decay."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

from regrow.errors import BadInput
from regrow.models.optimization import Optimization


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("progress", "share"),
    [
        (0.0, 0.0),
        (0.1, 0.5),
        (0.2, 1.0),
        (0.4, 0.5 * (1 + math.sqrt(0.5))),  # a quarter of the cosine
        (0.6, 0.5),
        (0.8, 0.5 * (1 - math.sqrt(0.5))),
        (1.0, 0.0),
    ],
)
def test_rate_rises_then_falls_as_a_cosine(progress: float, share: float) -> None:
    optimization = Optimization(lr=0.3, warmup=0.2)
    assert optimization.rate(progress) == pytest.approx(0.3 * share, abs=1e-12)


@pytest.mark.parametrize(("progress", "share"), [(0, 0), (0.05, 0.5), (0.1, 1), (0.5, 1), (1, 1)])
def test_constant_rate_stays_at_the_peak(progress: float, share: float) -> None:
    optimization = Optimization(lr=0.3, warmup=0.1, schedule="constant")
    assert optimization.rate(progress) == pytest.approx(0.3 * share)


def test_rate_without_warm_up_starts_at_the_peak() -> None:
    assert Optimization(lr=0.3, warmup=0).rate(0) == pytest.approx(0.3)
    assert Optimization(lr=0.3, warmup=0).rate(0.5) == pytest.approx(0.15)


def test_cosine_equals_the_library_schedule() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    ours = Optimization(lr=0.3, warmup=0)
    for step in range(40):
        assert ours.rate(step / 40) == pytest.approx(schedule.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        schedule.step()


def test_rate_stays_within_its_range() -> None:
    optimization = Optimization(lr=0.3, warmup=0.05)
    rates = [optimization.rate(step / 1000) for step in range(1001)]
    assert min(rates) >= 0
    assert max(rates) == pytest.approx(0.3, rel=1e-3)
    assert max(rates) <= 0.3
    peak = rates.index(max(rates))
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 0.4), (9, 0.4), (10, 0.1), (19, 0.1), (20, 0.025), (29, 0.025)]
)
def test_rate_falls_in_steps(epoch: int, rate: float) -> None:
    steps = Optimization(
        lr=0.4, warmup=0, schedule="steps", milestones=(10 / 30, 20 / 30), factor=0.25
    )
    assert steps.rate(epoch / 30) == pytest.approx(rate)
    assert steps.rate((epoch + 0.99) / 30) == pytest.approx(rate)


def test_steps_rise_first_like_any_schedule() -> None:
    steps = Optimization(lr=0.4, warmup=0.2, schedule="steps", milestones=(0.5,))
    assert [steps.rate(p) for p in (0, 0.1, 0.2)] == pytest.approx([0, 0.2, 0.4])
    assert steps.rate(1) == pytest.approx(0.04)


def test_poly_equals_the_library_schedule() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.3)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, 40, power=0.9)
    ours = Optimization(lr=0.3, warmup=0, schedule="poly")
    for step in range(41):
        assert ours.rate(step / 40) == pytest.approx(schedule.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": "steps"}, "schedule is steps; say when, in optimization.milestones"),
        ({"milestones": [0.5, 1.0]}, r"milestones are \[0.5, 1.0\]; they are shares of the run"),
        ({"factor": 2.0}, "factor is 2.0, it must lie in"),
        ({"beta2": 1.0}, "beta2 is 1.0, it must lie in"),
        ({"alpha": -0.1}, "alpha is -0.1, it must lie in"),
        ({"eps": -1.0}, "eps is -1.0, it must be 0 or more"),
        ({"lr": -1.0}, "lr is -1.0, it must be 0 or more"),
        ({"momentum": 1.0}, "momentum is 1.0, it must lie in"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Optimization(**values)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_filters_and_matrices_decay_and_biases_and_norms_do_not(name: str) -> None:
    net = _net()
    optimizer = Optimization(optimizer=name, weight_decay=0.5, lr=0.1).build(net)
    decay = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert {n: decay[id(p)] for n, p in net.named_parameters()} == {
        "0.weight": 0.5,
        "0.bias": 0,
        "1.weight": 0,
        "1.bias": 0,
        "3.weight": 0.5,
        "3.bias": 0,
    }
    # Without gradients but for zeros, a step of either shrinks what decays by lr * decay.
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    # Nesterov's first step is gradient + momentum * gradient.
    factor = 1 - 0.1 * 0.5 * (1.9 if name == "sgd" else 1)
    for key, parameter in net.named_parameters():
        shrunk = before[key] * (factor if parameter.ndim > 1 else 1)
        torch.testing.assert_close(parameter.detach(), shrunk)


def test_frozen_parameters_are_left_out() -> None:
    net = _net()
    net[3].weight.requires_grad_(False)
    optimizer = Optimization().build(net)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in net.parameters() if p is not net[3].weight}
    net[0].weight.requires_grad_(False)
    assert [len(group["params"]) for group in Optimization().build(net).param_groups] == [4]


def test_sgd_has_nesterov_momentum_unless_momentum_is_zero() -> None:
    sgd = Optimization(optimizer="sgd", lr=0.1, momentum=0.8).build(_net())
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["lr"], sgd.defaults["momentum"], sgd.defaults["nesterov"]) == (
        0.1,
        0.8,
        True,
    )
    plain = Optimization(optimizer="sgd", momentum=0).build(_net())
    assert (plain.defaults["momentum"], plain.defaults["nesterov"]) == (0, False)


def test_sgd_may_have_plain_momentum() -> None:
    """The second step of heavy-ball momentum on a constant gradient is 1 + m times the first."""
    net = _net()
    optimizer = Optimization("sgd", lr=0.1, weight_decay=0, momentum=0.8, nesterov=False).build(net)
    moved = []
    for _ in range(2):
        before = net[3].bias.detach().clone()
        net[3].bias.grad = torch.ones(2)
        optimizer.step()
        moved.append(before - net[3].bias.detach())
    torch.testing.assert_close(moved[0], torch.full((2,), 0.1))
    torch.testing.assert_close(moved[1], torch.full((2,), 0.18))


def test_rmsprop_divides_by_the_root_of_the_mean_square() -> None:
    net = _net()
    rmsprop = Optimization("rmsprop", lr=0.1, weight_decay=0, momentum=0, alpha=0.75, eps=0.5)
    optimizer = rmsprop.build(net)
    before = net[3].bias.detach().clone()
    net[3].bias.grad = torch.full((2,), 2.0)
    optimizer.step()
    # The mean square is 0.25 * 4 = 1.
    torch.testing.assert_close(net[3].bias.detach(), before - 0.1 * 2 / (1 + 0.5))
    with_momentum = Optimization("rmsprop", momentum=0.7, weight_decay=0.3).build(_net())
    assert with_momentum.defaults["momentum"] == 0.7
    assert [group["weight_decay"] for group in with_momentum.param_groups] == [0.3, 0]


def test_adamw_takes_its_constants() -> None:
    adamw = Optimization(beta1=0.8, beta2=0.95, eps=1e-4).build(_net())
    assert (adamw.defaults["betas"], adamw.defaults["eps"]) == ((0.8, 0.95), 1e-4)


def test_adamw_is_the_default() -> None:
    adamw = Optimization(lr=0.1).build(_net())
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.defaults["lr"] == 0.1


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_gradient_in_another_memory_format_is_the_same_gradient(name: str) -> None:
    weights = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        net = _net().to(memory_format=memory_format)
        optimizer = Optimization(optimizer=name, lr=0.1).build(net)
        generator = torch.Generator().manual_seed(1)
        for _ in range(3):
            for parameter in net.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()
        weights.append(net[0].weight.detach())
    torch.testing.assert_close(weights[0], weights[1])


def test_settings_are_plain_and_frozen() -> None:
    optimization = Optimization(lr=0.2, schedule="steps", milestones=(0.5, 0.75))
    assert optimization == Optimization(lr=0.2, schedule="steps", milestones=[0.5, 0.75])  # type: ignore[arg-type]
    assert Optimization(**dataclasses.asdict(optimization)) == optimization
    with pytest.raises(dataclasses.FrozenInstanceError):
        optimization.lr = 3  # type: ignore[misc]
