"""regrow: prune vision networks and keep them trained while their data grows."""

from typing import TYPE_CHECKING

from regrow.lazy import lazy

if TYPE_CHECKING:
    from regrow.data.formats import ImageFolder
    from regrow.data.module import GrowingData
    from regrow.errors import BadInput, CheckFailed
    from regrow.models.checkpoint import load
    from regrow.models.classification import Classification
    from regrow.models.detection import Detection
    from regrow.models.segmentation import Segmentation
    from regrow.pipelines.export import run_export
    from regrow.pipelines.lineage_table import run_lineage
    from regrow.pipelines.prune import run_pruning
    from regrow.pipelines.train import run_training
    from regrow.training.evaluation import evaluate
    from regrow.training.fit import Fit
else:
    __getattr__, __dir__ = lazy(__name__)

__version__ = "0.2.0"
__all__ = [
    "BadInput",
    "CheckFailed",
    "Classification",
    "Detection",
    "Fit",
    "GrowingData",
    "ImageFolder",
    "Segmentation",
    "__version__",
    "evaluate",
    "load",
    "run_export",
    "run_lineage",
    "run_pruning",
    "run_training",
]
