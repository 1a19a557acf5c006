"""Models: networks, the three tasks that train them, checkpoints, cost and latency."""

from typing import TYPE_CHECKING

from regrow.lazy import lazy

if TYPE_CHECKING:
    from regrow.models.checkpoint import load, save
    from regrow.models.classification import Classification
    from regrow.models.cost import Cost, count_macs, count_params, measure
    from regrow.models.detection import Detection
    from regrow.models.latency import Clock, latency_ms
    from regrow.models.nets.build import build_net, list_nets
    from regrow.models.optimization import Optimization
    from regrow.models.segmentation import Segmentation
    from regrow.models.task import Penalty, Task
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "Classification",
    "Clock",
    "Cost",
    "Detection",
    "Optimization",
    "Penalty",
    "Segmentation",
    "Task",
    "build_net",
    "count_macs",
    "count_params",
    "latency_ms",
    "list_nets",
    "load",
    "measure",
    "save",
]
