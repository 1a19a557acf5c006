"""One step of masking single weights: score, choose, mask."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from regrow.errors import BadInput
from regrow.models.latency import Latency
from regrow.models.masks import mask_weights_, masks_of
from regrow.models.task import Task
from regrow.prune.channels.records import Groups
from regrow.prune.contributions import Batches
from regrow.prune.criteria import Criterion, Magnitude
from regrow.prune.removal import NOTHING, Cut, Removal, refuse_not_finite
from regrow.prune.weights import choose_masks, choose_n_of_m, find_weights, score_weights

COST = "weights"


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Weights:
    """Unstructured sparsity: single weights are masked instead of removing channels.

    Shapes stay, and so do MACs and latency, unless the hardware has kernels for the pattern.

    Args:
        share: The sparsity: the share of the weights of convolutions, linear layers and attention
            that is masked, in (0, 1); output layers and depthwise filters stay.
        pattern: Structured sparsity: `2:4` masks two of each four weights along the inputs, all in
            one step, whatever the share; null masks any.
        scope: The range of the ranking: `global` ranks all weights against each other, `local` each
            layer's by themselves.
        max_share: The largest share of one layer's weights that may go, in (0, 1].
    """

    share: float = 0.8
    pattern: Literal["2:4"] | None = None
    scope: Literal["global", "local"] = "global"
    max_share: float = 0.99

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 < self.share < 1 or not 0 < self.max_share <= 1:
            raise BadInput(
                f"weights.share is {self.share} and weights.max_share {self.max_share}; they must "
                "lie in (0, 1) and (0, 1]"
            )


class SingleWeights(Removal):
    """Removal of single weights: they are masked, and shapes stay.

    Args:
        task: The network before any pruning; it stays as it is.
        weights: Which weights are masked in the end.
        criterion: The way to score weights, by default their size.
        reference: The network that the budget compares with, by default this one.
        latency: Times networks beside the reference, for the report.

    Raises:
        BadInput: If no weight may be masked, or one is not finite.

    Examples:
        >>> from regrow.models import Classification
        >>> from regrow.prune import SingleWeights, Weights
        >>> task = Classification(["cat", "dog"], (16, 16), net_args={"width": 8})
        >>> weights = SingleWeights(task, Weights(share=0.5))
        >>> size = sum(task.net.get_parameter(name).numel() for name in weights.names)
        >>> cut = weights.cut_(task, [], {"weights": 0.5}, tightly=True)
        >>> cut.num_masked == size // 2
        True
    """

    def __init__(
        self,
        task: Task,
        weights: Weights = Weights(),
        criterion: Criterion | None = None,
        reference: Task | None = None,
        latency: Latency | None = None,
    ) -> None:
        refuse_not_finite(task)
        self.names, left_whole = find_weights(task)
        if not self.names:
            raise BadInput("there are no weights to mask: all belong to layers that are left whole")
        shares = {COST: 1 - weights.share}
        super().__init__(Groups([], left_whole), shares, reference or task, latency)
        self.weights, self.criterion = weights, criterion or Magnitude()
        self.is_divisible = weights.pattern is None

    def cut_(
        self, task: Task, batches: Batches, kept: Mapping[str, float], *, tightly: bool
    ) -> Cut | None:
        """Mask the weights with the lowest scores; a pattern waits for the last step."""
        if self.weights.pattern is not None and not tightly:
            return NOTHING
        before = _num_masked(masks_of(task.net))
        scores = score_weights(task, self.names, self.criterion, batches)
        if self.weights.pattern is not None:
            masks, dense = choose_n_of_m(task.net, scores)
            self.groups.left_whole |= dense
        else:
            masks = choose_masks(
                task.net,
                scores,
                1 - kept[COST],
                scope=self.weights.scope,
                max_share=self.weights.max_share,
            )
        mask_weights_(task.net, masks)
        return Cut({}, {}, 0.0, _num_masked(masks_of(task.net)) - before)

    def follow(self, cut: Cut) -> None:
        """Do nothing: the network holds its masks."""


def _num_masked(masks: Mapping[str, Tensor]) -> int:
    return sum(int((~mask).sum()) for mask in masks.values())
