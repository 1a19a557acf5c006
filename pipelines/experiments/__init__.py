"""Experiments: many runs compared, dropout with pruning and ways to retrain."""

from typing import TYPE_CHECKING

from regrow.lazy import lazy

if TYPE_CHECKING:
    from regrow.pipelines.experiments.compare_dropout import run_comparison
    from regrow.pipelines.experiments.compare_retraining import run_retraining
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "run_comparison",
    "run_retraining",
]
