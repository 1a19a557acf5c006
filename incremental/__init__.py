"""Incremental training: class maps, warm start, head growth, replay, and the gate."""

from typing import TYPE_CHECKING

from regrow.lazy import lazy

if TYPE_CHECKING:
    from regrow.incremental.expand import expand_
    from regrow.incremental.gating.gate import Decision, Gate, judge
    from regrow.incremental.gating.promotion import promote, read_promoted
    from regrow.incremental.growth import Growth
    from regrow.incremental.label_map import LabelMap
    from regrow.incremental.matching import match_classes_
    from regrow.incremental.mixing import Mixing
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "Decision",
    "Gate",
    "Growth",
    "LabelMap",
    "Mixing",
    "expand_",
    "judge",
    "match_classes_",
    "promote",
    "read_promoted",
]
