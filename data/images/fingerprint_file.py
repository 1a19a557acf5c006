"""The file that keeps fingerprints from run to run: where it lies, and whether it may be believed.

There is one for a root, in `REGROW_CACHE` (`off` keeps nothing), else in the folder `regrow` of the
user's caches (XDG Base Directory Specification). What is torn, foreign, or was found with another
format or another Pillow, which might decode otherwise, is made anew. What others own or can write
is not believed: wrong hashes would let changed images pass for known ones.
"""

import hashlib
import json
import os
import re
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import PIL

from regrow.data.source import locate
from regrow.errors import BadInput
from regrow.files import open_regular, write_atomic
from regrow.logs import log

FORMAT = 3  # to be raised with any change of what is decoded or how it is hashed
MAX_BYTES = 2**31  # of ten million files, about
BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
WAY_OUT = "set REGROW_CACHE to another folder, or to off"


def file_of(root: Path) -> Path | None:
    """Return the file for the folder of the data; None where nothing is kept."""
    folder = os.environ.get("REGROW_CACHE", "")
    if folder == "off":
        return None
    if not folder:
        caches = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(caches):  # the specification has it that such a one is ignored
            caches = os.path.expanduser("~/.cache")
        folder = os.path.join(caches, "regrow")
    refusal = _refusal_of_folder(Path(folder))
    if refusal:
        _say(f"{folder}: {refusal}, so that nothing in it is believed; {WAY_OUT}")
        return None
    with suppress(BadInput):  # a source may read its root in its own way
        root = locate(root)
    place = os.path.realpath(root)
    name = re.sub(r"[^\w.-]+", "_", os.path.basename(place))[:40]
    return Path(
        folder, f"{name}-{hashlib.blake2b(os.fsencode(place), digest_size=8).hexdigest()}.json"
    )


def read_kept(file: Path) -> dict[str, Any]:
    """Return what a file keeps, by name; nothing where it cannot be believed or read."""
    try:
        if file.is_symlink():
            raise BadInput(f"{file}: a link")
        with open_regular(file) as opened:
            status = os.fstat(opened.fileno())
            refusal = _refusal(status)
            if refusal:
                raise BadInput(f"{file}: {refusal}")
            content = opened.read(MAX_BYTES) if status.st_size < MAX_BYTES else b""
        head, _, body = content.partition(b"\n")
        known = json.loads(body) if head == _head(body) else {}
    except BadInput as error:
        _say(f"{error}, so that it is not believed and made anew")
        return {}
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def write_kept(file: Path, known: dict[str, Any]) -> None:
    """Write what is known, by name, for the eyes of the user alone; say so where that fails."""
    body = json.dumps(known, separators=(",", ":")).encode()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(file, lambda opened: opened.write(_head(body) + b"\n" + body))
        file.chmod(0o600)
    except OSError as error:
        # `write_atomic` says more than the reason.
        reason = error.__cause__ if isinstance(error.__cause__, OSError) else error
        _say(
            f"{file}: cannot be written ({reason.strerror}), so that the next run reads all images "
            f"again; {WAY_OUT}"
        )


def _refusal_of_folder(folder: Path) -> str:
    try:
        return _refusal(folder.stat())
    except OSError:  # none yet, which is made; or one that cannot be written, which is said then
        return ""


def _refusal(status: os.stat_result) -> str:
    """Return why a file or folder is not the user's alone, if so."""
    if not hasattr(os, "geteuid"):
        return ""
    if status.st_uid != os.geteuid():
        return "another user owns it"
    return "others than its owner can write it" if status.st_mode & BY_OTHERS else ""


@cache
def _say(line: str) -> None:
    log.warning(line)


def _head(body: bytes) -> bytes:
    """Return the first line, which tells a file that is whole, ours and of today's code."""
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    head = {"regrow": "fingerprints", "format": FORMAT, "pillow": PIL.__version__}
    return json.dumps({**head, "digest": digest}).encode()
