"""Extract captures: what was computed from the pictures, in place of them."""

from dataclasses import asdict
from pathlib import Path

from regrow.allocation import keep_freed_memory
from regrow.files import make_folder
from regrow.logs import log
from regrow.monitor.baseline import Baseline
from regrow.monitor.examples import NUM_KEPT
from regrow.monitor.hours.extracting import Extractor, Wanted
from regrow.pipelines.monitoring.limits import refuse_sample
from regrow.reporting.lock import hold, releases_folders
from regrow.text import plural


@releases_folders
def run_extract(
    folder: Path,
    captures: Path,
    out: Path,
    embeddings: int = 200,
    attributions: int = 50,
    pictures: bool = True,
) -> dict[str, int]:
    """Write captures again with what was computed from their pictures in place of them.

    Args:
        folder: The monitor's folder, with its baseline.
        captures: The folder that the server captures into, or a share of it.
        out: The folder of the extracted captures; files that it has already stay as they are
            where their captures have not changed.
        embeddings: As of `run`: largest number of pictures an hour that the model is run on.
        attributions: As of `run`: largest number of pictures an hour that are explained.
        pictures: Whether the pictures of an hour that `run` needs are kept, those that it shows
            and runs the model on; `false` keeps numbers alone.

    Returns:
        The numbers of files, captures and bytes.

    Raises:
        BadInput: If anything given cannot be used.
    """
    refuse_sample(embeddings, attributions)
    baseline = Baseline.read(folder)
    is_run = pictures and baseline.network is not None
    wanted = Wanted(
        baseline.model,
        baseline.grey_range,
        NUM_KEPT if pictures else 0,
        max(embeddings, attributions) if is_run else 0,
    )
    extractor = Extractor(captures, out, wanted)
    make_folder(out)
    hold(out)
    keep_freed_memory()
    done = extractor.run()
    log.info(
        f"{out}: {plural(done.num_captures, 'capture')} of "
        f"{plural(done.num_files - done.num_unchanged, 'file')}, {done.num_kept:,} of them with "
        f"their pictures; {done.bytes_before:,} bytes became {done.bytes_after:,}; "
        f"{plural(done.num_unchanged, 'file')} had been extracted before"
    )
    return asdict(done)
