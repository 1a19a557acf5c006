"""Monitoring: what a served model sees and answers, compared with a frozen reference."""

from typing import TYPE_CHECKING

from regrow.lazy import lazy

if TYPE_CHECKING:
    from regrow.monitor.files.captures import Event, read_events
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = ["Event", "read_events"]
