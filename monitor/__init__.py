"""Monitoring: what a served model sees and answers, compared with a frozen reference."""

from typing import TYPE_CHECKING

from regrow.lazy import lazy

if TYPE_CHECKING:
    from regrow.monitor.alarms.risk import RiskDetector
    from regrow.monitor.alarms.shift import ShiftDetector
    from regrow.monitor.baseline import Baseline
    from regrow.monitor.features import picture_features
    from regrow.monitor.files.captures import Event, read_events
    from regrow.monitor.summary import Summary
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "Baseline",
    "Event",
    "RiskDetector",
    "ShiftDetector",
    "Summary",
    "picture_features",
    "read_events",
]
