"""The optimizer, and its learning rate as a function of progress."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from regrow.errors import BadInput

POLY_POWER = 0.9


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Optimization:
    """Settings of the optimizer and its learning rate schedule.

    Args:
        optimizer: Optimizer: `sgd`, `adamw` or `rmsprop`.
        lr: Learning rate at its peak.
        weight_decay: Weight decay of matrices and filters; biases and norms have none.
        momentum: Momentum of `sgd` and `rmsprop`, in [0, 1); `adamw` ignores it.
        warmup: Warm-up: share of the run in which the learning rate rises linearly, in [0, 1).
        schedule: Learning rate schedule after the warm-up: `cosine` or `poly` to zero at the end,
            `constant`, or `steps`, which multiplies by `factor` at each of `milestones`.
        milestones: Milestones of `steps`: shares of the run at which the rate falls, in (0, 1).
        factor: Factor of `steps`: what the rate is multiplied by at each milestone, in [0, 1].
        nesterov: Nesterov momentum for `sgd`.
        beta1: Beta 1 of `adamw`: decay of the mean of gradients, in [0, 1).
        beta2: Beta 2 of `adamw`: decay of the mean of squared gradients, in [0, 1).
        alpha: Alpha of `rmsprop`: decay of the mean of squared gradients, in [0, 1).
        eps: Epsilon of `adamw` and `rmsprop`, added to the denominator.

    Raises:
        BadInput: If a value is out of range.

    Examples:
        >>> from regrow.models import Optimization
        >>> schedule = Optimization(lr=0.1, warmup=0.1, schedule="cosine")
        >>> [round(schedule.rate(progress), 3) for progress in (0, 0.1, 0.55, 1)]
        [0.0, 0.1, 0.05, 0.0]
    """

    optimizer: Literal["sgd", "adamw", "rmsprop"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9
    warmup: float = 0.05
    schedule: Literal["cosine", "constant", "steps", "poly"] = "cosine"
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    nesterov: bool = True
    beta1: float = 0.9
    beta2: float = 0.999
    alpha: float = 0.9
    eps: float = 1e-8

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        # A checkpoint holds a list.
        object.__setattr__(self, "milestones", tuple(self.milestones))
        for name in ("lr", "weight_decay", "eps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInput(
                    f"optimization.{name} is {getattr(self, name)}, it must be 0 or more"
                )
        for name in ("momentum", "warmup", "beta1", "beta2", "alpha"):
            if not 0 <= getattr(self, name) < 1:
                raise BadInput(
                    f"optimization.{name} is {getattr(self, name)}, it must lie in [0, 1)"
                )
        if not 0 <= self.factor <= 1:
            raise BadInput(f"optimization.factor is {self.factor}, it must lie in [0, 1]")
        if not all(0 < share < 1 for share in self.milestones):
            raise BadInput(
                f"optimization.milestones are {list(self.milestones)}; they are shares of the run, "
                "each in (0, 1)"
            )
        if self.schedule == "steps" and not self.milestones:
            raise BadInput("optimization.schedule is steps; say when, in optimization.milestones")

    def build(self, net: nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer of a network's trainable parameters.

        It is not a fused one: fused optimizers silently compute wrong steps where a weight and its
        gradient or momentum differ in memory format, and Lightning does not clip gradients for them
        in mixed precision.
        """
        decayed = [p for p in net.parameters() if p.requires_grad and p.ndim > 1]
        plain = [p for p in net.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if self.optimizer == "sgd":
            nesterov = self.nesterov and self.momentum > 0
            return torch.optim.SGD(
                groups, lr=self.lr, momentum=self.momentum, nesterov=nesterov, foreach=True
            )
        if self.optimizer == "rmsprop":
            return torch.optim.RMSprop(
                groups,
                lr=self.lr,
                alpha=self.alpha,
                eps=self.eps,
                momentum=self.momentum,
                foreach=True,
            )
        betas = (self.beta1, self.beta2)
        return torch.optim.AdamW(groups, lr=self.lr, betas=betas, eps=self.eps, foreach=True)

    @property
    def remembered(self) -> dict[str, Any]:
        """Example of the optimizer's state of one weight, (1, 1), after a step."""
        probe = nn.Linear(1, 1, bias=False)
        optimizer = self.build(probe)
        probe.weight.grad = torch.zeros_like(probe.weight)
        optimizer.step()
        return dict(optimizer.state[probe.weight])

    def rate(self, progress: float) -> float:
        """Compute the learning rate at a point of the run.

        It depends on progress alone, so a resumed run needs no scheduler state.

        Source: linear warm-up, Goyal et al. 2017, arXiv 1706.02677; cosine without restarts,
        Loshchilov and Hutter 2016, arXiv 1608.03983; poly and its power, Chen et al., DeepLab,
        2016, arXiv 1606.00915.

        Args:
            progress: Share of the run that is done, in [0, 1].

        Returns:
            The learning rate, in [0, lr].
        """
        if progress < self.warmup:
            return self.lr * progress / self.warmup
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "steps":
            return self.lr * self.factor ** sum(progress >= share for share in self.milestones)
        after = min((progress - self.warmup) / max(1 - self.warmup, 1e-9), 1.0)
        if self.schedule == "poly":
            return float(self.lr * (1 - after) ** POLY_POWER)
        return self.lr * 0.5 * (1 + math.cos(math.pi * after))


def state_by_name(optimizer: torch.optim.Optimizer, net: nn.Module) -> dict[str, dict[str, Any]]:
    """Return the state of an optimizer by the weights' names in the network."""
    return {
        name: dict(optimizer.state[p]) for name, p in net.named_parameters() if p in optimizer.state
    }


def refuse_unlike_state(
    wanted: Mapping[str, Any], weight: torch.Tensor, found: Any, name: str
) -> None:
    """Refuse optimizer state of one weight that an optimizer of this kind cannot have.

    Args:
        wanted: State of such an optimizer for a weight of shape (1, 1).
        weight: The weight.
        found: The state to check, perhaps from an untrusted file.
        name: The name of the weight, for errors.

    Raises:
        BadInput: If keys, shapes or types differ.
    """
    if not isinstance(found, Mapping) or found.keys() != wanted.keys():
        raise BadInput(f"its optimizer remembers something else of {name} than this run's does")
    for key, value in wanted.items():
        other = found[key]
        if not isinstance(value, torch.Tensor):
            is_like = other is None or type(other) in (int, float)
        elif value.ndim == 0:
            is_scalar = isinstance(other, torch.Tensor) and other.ndim == 0
            is_like = (is_scalar and other.is_floating_point()) or type(other) in (int, float)
            is_like = is_like and 0 <= float(other) < math.inf
        else:
            is_like = isinstance(other, torch.Tensor) and other.is_floating_point()
            is_like = is_like and other.shape == weight.shape
        if not is_like:
            raise BadInput(f"its optimizer's {key} of {name} does not fit the weight")


def load_state_by_name_(
    optimizer: torch.optim.Optimizer,
    net: nn.Module,
    state: Mapping[str, Mapping[str, Any]],
    wanted: Mapping[str, Any],
) -> None:
    """Load the state of an earlier optimizer into a new one, weight by weight, in place.

    Args:
        optimizer: The new optimizer of the network's parameters.
        net: The network.
        state: The result of `state_by_name` for an optimizer of the same kind; weights that it does
            not name start with fresh state, and those that are no longer trained are skipped.
        wanted: State of such an optimizer for a weight of shape (1, 1).

    Raises:
        BadInput: If an entry does not fit its weight.
    """
    named = dict(net.named_parameters())
    trained = {p for group in optimizer.param_groups for p in group["params"]}
    for name, values in state.items():
        parameter = named.get(name)
        if parameter is not None and parameter in trained:
            refuse_unlike_state(wanted, parameter, values, name)
            optimizer.state[parameter] = {
                key: value.clone() if isinstance(value, torch.Tensor) else value
                for key, value in values.items()
            }
