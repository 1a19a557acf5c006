"""Archives whose bytes depend on nothing but what is packed: the `model.tar.gz` of SageMaker."""

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

LEVEL = 6


def write_archive(file: IO[bytes], members: Mapping[str, str | Path]) -> None:
    """Write files as a compressed archive; the same files make the same bytes.

    Args:
        file: What is written to.
        members: Texts, or files to copy, by their names in the archive, which stand at its root or
            in folders named there, in sorted order.
    """
    # Neither the time of packing nor a name goes into the header.
    with (
        gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(members):
            _add(archive, name, members[name])


def _add(archive: tarfile.TarFile, name: str, content: str | Path) -> None:
    # Owner and time of a TarInfo are 0 unless they are set.
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    if isinstance(content, str):
        data = content.encode()
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
        return
    with content.open("rb") as opened:
        info.size = opened.seek(0, io.SEEK_END)
        opened.seek(0)
        archive.addfile(info, opened)
