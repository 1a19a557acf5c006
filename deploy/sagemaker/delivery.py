"""The model artifact of a training job: the files of a run that are served, read or reused."""

import filecmp
import shutil
from pathlib import Path
from typing import IO

from regrow.data.stored import LIST, MEMORY
from regrow.files import read_json, whole_folder, write_atomic, write_json

DELIVERED = ("best.ckpt", "report.md", "predictions.png")


def deliver(run: Path, model: Path) -> None:
    """Copy the results of a run so far into the folder that the platform keeps.

    Each file is put there whole, and so is the memory. `promoted.json` is not: where the gate is
    shut, the job fails, so it could name nothing but the `best.ckpt` that is delivered.

    Args:
        run: The run's folder.
        model: The folder that the platform keeps; it is made.
    """
    exported = run / "export"
    _deliver_memory(run / MEMORY, model / MEMORY)
    for file in (*(run / name for name in DELIVERED), exported / "model.onnx"):
        if file.is_file():
            _copy(file, model / file.name)
    report, verified = run / "report.json", exported / "report.json"
    if report.is_file():
        onnx = read_json(verified).get("onnx") if verified.is_file() else None
        write_json(model / report.name, read_json(report) | {"onnx": onnx}, indent=2)


def _deliver_memory(kept: Path, target: Path) -> None:
    """Copy the memory of a run whole; where it has none, none of an earlier run may stay."""
    if not kept.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        return
    # The list has the hash of every image, so with the same list it is there already.
    listed = target / LIST
    if not listed.is_file() or not filecmp.cmp(kept / LIST, listed, shallow=False):
        with whole_folder(target) as made:
            shutil.copytree(kept, made, dirs_exist_ok=True)


def _copy(source: Path, target: Path) -> None:
    def write(file: IO[bytes]) -> None:
        with source.open("rb") as opened:
            shutil.copyfileobj(opened, file)

    write_atomic(target, write)
