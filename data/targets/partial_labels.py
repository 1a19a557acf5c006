"""Partial labels: images that were labelled before a class was added.

Regions without a label of such a class are ignored in the loss, not treated as background.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

HIDDEN = -1e4  # a logit whose probability and gradient are 0 in any float type


def known_classes(targets: Any) -> Tensor | None:
    """Return for each image which classes its label knows, (b, c); None where all know all."""
    if not isinstance(targets, list) or not targets or "known" not in targets[0]:
        return None
    return torch.stack([target["known"] for target in targets])


def plain_targets(targets: Any) -> Any:
    """Return targets as metrics and losses take them, without the classes that they know."""
    if known_classes(targets) is None:
        return targets
    if "mask" in targets[0]:
        return torch.stack([target["mask"] for target in targets])
    return [{k: v for k, v in target.items() if k != "known"} for target in targets]


def hidden(outputs: Mapping[str, Tensor], name: str, known: Tensor, dim: int) -> dict[str, Tensor]:
    """Return logits in which classes that labels do not know get no probability and no gradient.

    Args:
        outputs: Raw outputs.
        name: The name of the logits, (b, ..., c or more, ...): a background may come first.
        known: Which classes are known, (b, c).
        dim: The dimension of the classes.
    """
    logits = outputs[name]
    spare = logits.shape[dim] - known.shape[1]
    kept = torch.cat([known.new_ones(len(known), spare), known], 1)
    shape = [1] * logits.ndim
    shape[0], shape[dim] = kept.shape
    return {**outputs, name: logits.masked_fill(~kept.view(shape), HIDDEN)}
