"""Deployment: ONNX export, its check in ONNX Runtime, the server, and the SageMaker container."""

from typing import TYPE_CHECKING

from regrow.lazy import lazy

if TYPE_CHECKING:
    from regrow.deploy.exporting import export, export_verified
    from regrow.deploy.parity import Parity, check_parity
    from regrow.deploy.runtime import OnnxModel, detections, metadata_of, predictions
    from regrow.deploy.serving.observing import Exchange, Observer
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "Exchange",
    "Observer",
    "OnnxModel",
    "Parity",
    "check_parity",
    "detections",
    "export",
    "export_verified",
    "metadata_of",
    "predictions",
]
