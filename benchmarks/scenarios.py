"""Scenarios of `incremental.py`: the data of the old network, the data to come, the warm starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.transforms import v2

from regrow.incremental.growth import Growth
from regrow.training.distillation import Distillation


@dataclass(frozen=True)
class Beginning:
    """The options that a warm start begins with."""

    growth: Growth = Growth()
    sparsity: Literal["keep", "regrow", "dense"] = "keep"


@dataclass(frozen=True)
class Scenario:
    """A scenario: the data that an old network knows, and the data to come.

    Args:
        subject: The config of the images and the network.
        late: The data to come, as `Staged` takes it.
        rates: Peak learning rates that training from scratch tries.
        beginnings: The options of warm starts; the first is tuned before the others, unless each
            is tuned by itself.
        warm_rates: Those of warm starts, where they are others.
        share: Share of the steps from scratch that warm starts have.
        family: The name under which scenarios share their old networks.
        is_memory: Only a memory of the old images is at hand.
        is_sparse: The old network is masked, and each beginning tuned by itself.
    """

    subject: str
    late: Mapping[str, Any]
    rates: tuple[float, ...]
    beginnings: Mapping[str, Beginning]
    warm_rates: tuple[float, ...] | None = None
    share: float = 0.4
    family: str = ""
    is_memory: bool = False
    is_sparse: bool = False


def grown(**options: Any) -> Beginning:
    """Return a beginning of options of `Growth`."""
    return Beginning(Growth(**options))


SGD_RATES, ADAMW_RATES = (0.05, 0.1, 0.2), (5e-4, 1e-3, 2e-3)
HALF_SHRUNK = grown(warm_init="shrink-perturb", shrink=0.7, perturb=0.05)
TWO_CLASSES = {"late_classes": ["ship", "truck"]}
NEW_LABELS = {
    "default": Beginning(),
    "imprint": grown(new_rows="imprint"),
    "mean": grown(new_rows="mean"),
    "distilled": grown(distillation=Distillation()),
}
SCENARIOS = {
    "doubled": Scenario(
        "cifar10",
        {"late_share": 0.5},
        SGD_RATES,
        {
            "default": Beginning(),
            "half shrunk": HALF_SHRUNK,
            "dash": grown(warm_init="dash"),
            "distilled": grown(distillation=Distillation()),
        },
    ),
    "classes": Scenario(
        "cifar10",
        TWO_CLASSES,
        SGD_RATES,
        {
            "default": Beginning(),
            "imprint": grown(new_rows="imprint"),
            "half shrunk": HALF_SHRUNK,
            "distilled": grown(distillation=Distillation()),
        },
        family="classes",
    ),
    "replay": Scenario(
        "cifar10",
        TWO_CLASSES,
        SGD_RATES,
        {
            "default": Beginning(),
            "anchored more": grown(anchor=0.5),
            "unanchored": grown(anchor=0.0),
            "plain": grown(anchor=0.0, distillation=Distillation(weight=0.0)),
        },
        warm_rates=(0.01, 0.03, 0.1),
        share=0.1,
        family="classes",
        is_memory=True,
    ),
    "sparse": Scenario(
        "cifar10",
        TWO_CLASSES,
        SGD_RATES,
        {
            "dense": Beginning(sparsity="dense"),
            "keep": Beginning(sparsity="keep"),
            "regrow": Beginning(sparsity="regrow"),
        },
        share=0.2,
        family="classes",
        is_sparse=True,
    ),
    "cells": Scenario(
        "bccd", {"late_classes": ["Platelets"], "unlabelled": True}, ADAMW_RATES, NEW_LABELS
    ),
    "streets": Scenario(
        "camvid", {"late_classes": ["car"], "unlabelled": True}, ADAMW_RATES, NEW_LABELS
    ),
    "dusk": Scenario(
        "camvid",
        {"late_names": "0001TP"},
        ADAMW_RATES,
        {
            "default": Beginning(),
            "half shrunk": HALF_SHRUNK,
            "dash": grown(warm_init="dash"),
            "distilled": grown(distillation=Distillation()),
        },
    ),
}


class CropAndFlip(v2.Transform):
    """The usual augmentation of CIFAR-10, in one transform: three times as fast as in two.

    Args:
        margin: How far an image moves at most, in pixels; what it uncovers is black.
    """

    def __init__(self, margin: int) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, image: Tensor) -> Tensor:
        """Move an image, (3, h, w), and flip it half of the time."""
        height, width = image.shape[-2:]
        down, across, flip = torch.randint(2**31, (3,)).tolist()
        padded = image.new_zeros(3, height + 2 * self.margin, width + 2 * self.margin)
        padded[:, self.margin : -self.margin, self.margin : -self.margin] = image
        top, left = (place % (2 * self.margin + 1) for place in (down, across))
        image = padded[:, top : top + height, left : left + width]
        return image.flip(-1) if flip % 2 else image
