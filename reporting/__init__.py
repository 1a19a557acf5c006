"""Results of a run: its folder, report, pictures, charts and TensorBoard logs."""

from typing import TYPE_CHECKING

from regrow.lazy import lazy

if TYPE_CHECKING:
    from regrow.reporting.pictures import draw, save_picture
    from regrow.reporting.report import Report
    from regrow.reporting.run_folder import open_run
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "Report",
    "draw",
    "open_run",
    "save_picture",
]
