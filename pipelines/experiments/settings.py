"""The folder of a comparison: its settings, which a resumed one must repeat."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regrow.errors import BadInput
from regrow.files import read_json, write_json, write_text
from regrow.reporting.run_folder import MARK, open_run
from regrow.training.resume import refuse_changes

SETTINGS = "settings.json"


# What a resumed run may change: nothing that affects the results that are there.
FREE = {"run", "resume", "num_seeds", "data.root", "data.num_workers", "data.cache_bytes"}


def begin_comparison(run: Path, resume: bool, values: Mapping[str, Any], command_line: str) -> None:
    """Open the run's folder, a new one or one to go on with."""
    file = run / SETTINGS
    if resume and not file.is_file():
        raise BadInput(f"{run} has no comparison to resume; start it without --resume")
    if resume:
        refuse_changes(read_json(file), values, FREE)
        write_text(run / MARK, f"{command_line}\n")
        return
    open_run(run, command_line)
    write_json(file, values)
