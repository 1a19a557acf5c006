"""Opening of a model to serve: found, loaded and warmed up."""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from regrow.deploy.exporting import ExportApart
from regrow.deploy.serving.memory import refuse_shortage
from regrow.deploy.serving.model_files import Found, Promoted, decoding_of, find_model
from regrow.deploy.serving.served_model import ServedModel


@dataclass(frozen=True, slots=True)
class Opener:
    """How models are opened.

    Args:
        promoted: Returns the checkpoint that a `promoted.json` names.
        max_batch: The largest batch that is warmed up.
        num_threads: Threads of one operator on the CPU; None takes as many as torch does.
        grey_range: The values of 16-bit grey pictures that become 0 and 255; None takes those of
            the `data.yaml` beside the model.
        allow: Other people's packages that networks may come from.
        apart: Exports checkpoints in processes of their own.
    """

    promoted: Promoted
    max_batch: int = 1
    num_threads: int | None = None
    grey_range: tuple[int, int] | None = None
    allow: Sequence[str] = ()
    apart: ExportApart = field(default_factory=ExportApart)

    def open(
        self, path: Path, keep: Path | None = None, *, is_beside: bool = False
    ) -> tuple[ServedModel, Found]:
        """Open the model that a path means, and run every batch size once.

        Args:
            path: What `find_model` takes.
            keep: Where to keep a copy of the ONNX file that is served; None keeps none.
            is_beside: Whether others are served already, which would end if memory did.

        Returns:
            The model, and where it was found.

        Raises:
            BadInput: If there is none that can be served.
            MemoryError: If one beside others will not fit.
        """
        with tempfile.TemporaryDirectory() as folder:
            found = find_model(path, Path(folder) / "unpacked", self.promoted)
            if is_beside:
                refuse_shortage(found.file)
            decoding = decoding_of(found.file)
            if self.grey_range is not None:
                decoding = replace(decoding, grey_range=self.grey_range)
            model = ServedModel(
                found.file,
                decoding,
                num_threads=self.num_threads,
                export=partial(self.apart.export, allow=self.allow),
                keep=keep,
            )
        model.warm_up(self.max_batch)
        return model, found

    def beside(self, path: Path) -> ServedModel:
        """Return the model that a path means, opened beside others that are served."""
        return self.open(path, is_beside=True)[0]

    async def run(self) -> None:
        """Wait until cancelled, and then stop what is exported: the end waits for nothing."""
        try:
            await asyncio.Event().wait()
        finally:
            self.apart.stop()
