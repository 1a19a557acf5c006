"""The optimizer and its learning rate, as a function of progress."""

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
    """How the weights move.

    Args:
        optimizer: `sgd`, `adamw` or `rmsprop`.
        lr: The peak learning rate.
        weight_decay: Decay of weight matrices and filters; biases and norms have none.
        momentum: Momentum of `sgd` and `rmsprop`; ignored by `adamw`.
        warmup: Share of the run in which the rate rises linearly to its peak, in [0, 1).
        schedule: `cosine` and `poly`, a power of what is left of the run, fall to zero at its end;
            `constant` stays at the peak; `steps` falls by `factor` at each of the `milestones`.
        milestones: Shares of the run that are done when `steps` falls, in (0, 1).
        factor: What `steps` multiplies the rate by, in [0, 1].
        nesterov: Whether the momentum of `sgd` is Nesterov's.
        beta1: Decay of the mean of gradients of `adamw`, in [0, 1).
        beta2: Decay of the mean of squared gradients of `adamw`, in [0, 1).
        alpha: Decay of the mean of squared gradients of `rmsprop`, in [0, 1).
        eps: What `adamw` and `rmsprop` add to what they divide by.

    Raises:
        BadInput: If a value is out of range.
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
        """Give the optimizer of the net's trainable parameters.

        It is not a fused one: that is wrong without a word where a weight and its gradient or
        momentum differ in memory format, and Lightning does not clip for it in mixed precision.
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
        """Return what the optimizer remembers of a weight, (1, 1), after a step."""
        probe = nn.Linear(1, 1, bias=False)
        optimizer = self.build(probe)
        probe.weight.grad = torch.zeros_like(probe.weight)
        optimizer.step()
        return dict(optimizer.state[probe.weight])

    def rate(self, progress: float) -> float:
        """Give the learning rate at a point of the run.

        It is a function of progress alone, so a resumed run needs no scheduler state.

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
            return self.lr * (1 - after) ** POLY_POWER
        return self.lr * 0.5 * (1 + math.cos(math.pi * after))


def state_by_name(optimizer: torch.optim.Optimizer, net: nn.Module) -> dict[str, dict[str, Any]]:
    """Give what an optimizer remembers of each weight, by the weight's name in the net."""
    return {
        name: dict(optimizer.state[p]) for name, p in net.named_parameters() if p in optimizer.state
    }


def refuse_unlike_state(
    wanted: Mapping[str, Any], weight: torch.Tensor, found: Any, name: str
) -> None:
    """Refuse what an optimizer is said to remember of a weight, if one of its kind cannot have.

    Args:
        wanted: What one of its kind remembers of a weight, (1, 1).
        weight: The weight.
        found: What it is said to remember, perhaps in a stranger's file.
        name: What the weight is called.

    Raises:
        BadInput: If names, shapes or types differ.
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
    """Let an optimizer go on with what another one remembered of each weight.

    Args:
        optimizer: The optimizer of the net's parameters, new.
        net: The net.
        state: What `state_by_name` gave for an optimizer of the same kind; weights that it does
            not name, or that are trained no more, begin anew.
        wanted: What an optimizer of that kind remembers of a weight, (1, 1).

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
