"""Training: its settings, the trainer and callbacks, evaluation, resuming a run."""

from typing import TYPE_CHECKING

from regrow.lazy import lazy

if TYPE_CHECKING:
    from regrow.training.distillation import Distillation, DistillationPenalty
    from regrow.training.evaluation import Evaluation, evaluate
    from regrow.training.fit import Fit
    from regrow.training.trainer import fine_tune_, make_trainer, train
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "DistillationPenalty",
    "Evaluation",
    "Fit",
    "Distillation",
    "evaluate",
    "fine_tune_",
    "make_trainer",
    "train",
]
