"""Writers of captures, closed in the end."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from regrow.deploy.capture.space import DiskLimit
from regrow.deploy.capture.writer import CaptureWriter


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., CaptureWriter]]:
    """Return what makes a writer into a folder, on a disk that may be full."""
    made = []

    def writer(folder: Path = tmp_path, **options: Any) -> CaptureWriter:
        made.append(CaptureWriter(folder, **{"limit": DiskLimit(max_share=1.0), **options}))
        return made[-1]

    yield writer
    for one in made:
        one.close()
