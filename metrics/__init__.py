"""Scores and what they prove: per-image evidence, confidence intervals, tests, budgets."""

from typing import TYPE_CHECKING

from regrow.lazy import lazy

if TYPE_CHECKING:
    from regrow.metrics.budget import Budget, Verdict, decide
    from regrow.metrics.evidence import BoxEvidence, ConfusionEvidence, CorrectEvidence, Evidence
    from regrow.metrics.intervals import paired_interval
    from regrow.metrics.scores import Accuracy, MeanAP, MeanIoU
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "Accuracy",
    "BoxEvidence",
    "Budget",
    "ConfusionEvidence",
    "CorrectEvidence",
    "Evidence",
    "MeanAP",
    "MeanIoU",
    "Verdict",
    "decide",
    "paired_interval",
]
