"""Prune: a smaller network under an accuracy budget, by removing channels or masking weights."""

from typing import TYPE_CHECKING

from regrow.lazy import lazy

if TYPE_CHECKING:
    from regrow.prune.channels.groups import find_groups
    from regrow.prune.channels.records import Group, Groups, Plan
    from regrow.prune.channels.surgery import cut_, mask_
    from regrow.prune.compensation.compensate import Compensation, compensate_
    from regrow.prune.criteria import (
        ActivationGradient,
        ConsumerMagnitude,
        Criterion,
        Fisher,
        Lamp,
        Magnitude,
        NormScale,
        Random,
        Taylor,
        score_groups,
    )
    from regrow.prune.dropout import (
        DropBlock,
        Dropout,
        HeadDropout,
        SpatialDropout,
        TargetedDropout,
    )
    from regrow.prune.engine import Result, prune
    from regrow.prune.masking import SingleWeights, Weights
    from regrow.prune.plain_task import as_task
    from regrow.prune.recovery import reestimate_batchnorm_
    from regrow.prune.removal import Channels, Cut, Removal
    from regrow.prune.search.settings import Search
    from regrow.prune.selection import Selection, lowest
    from regrow.prune.state import Step
    from regrow.prune.target import Target
    from regrow.prune.widening.widen import Widening, widen_
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "ActivationGradient",
    "Channels",
    "Compensation",
    "ConsumerMagnitude",
    "Criterion",
    "Cut",
    "DropBlock",
    "Dropout",
    "Fisher",
    "Group",
    "Groups",
    "HeadDropout",
    "Lamp",
    "Magnitude",
    "NormScale",
    "Plan",
    "Random",
    "Removal",
    "Result",
    "Search",
    "Selection",
    "SingleWeights",
    "SpatialDropout",
    "Step",
    "Target",
    "TargetedDropout",
    "Taylor",
    "Weights",
    "Widening",
    "as_task",
    "compensate_",
    "cut_",
    "find_groups",
    "lowest",
    "mask_",
    "prune",
    "reestimate_batchnorm_",
    "score_groups",
    "widen_",
]
