"""Pipelines: one run each as a typed function (train, prune, export, serve, monitor, ...)."""

from typing import TYPE_CHECKING

from regrow.lazy import lazy

if TYPE_CHECKING:
    from regrow.pipelines.demo import run_demo
    from regrow.pipelines.export import run_export
    from regrow.pipelines.lineage_table import run_lineage
    from regrow.pipelines.monitor import run_monitor
    from regrow.pipelines.monitoring.baseline import run_baseline
    from regrow.pipelines.monitoring.extract import run_extract
    from regrow.pipelines.prune import run_pruning
    from regrow.pipelines.replay import run_replay
    from regrow.pipelines.serve import run_server
    from regrow.pipelines.train import run_training
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "run_baseline",
    "run_demo",
    "run_export",
    "run_extract",
    "run_lineage",
    "run_monitor",
    "run_pruning",
    "run_replay",
    "run_server",
    "run_training",
]
