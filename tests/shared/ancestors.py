"""Checkpoints written by hand that say where they come from."""

from pathlib import Path

import torch

from regrow.data.snapshot import Manifest
from regrow.files import file_hash
from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.models.record.provenance import Provenance

KEPT_SINCE = ("lineage", "date", "change")


def made(path: Path, images: int, parent: Path | None = None, *, is_old: bool = False) -> Path:
    """Write a checkpoint by hand that says where it comes from, and remembers nothing older."""
    hashes = torch.arange(images, dtype=torch.uint8)[:, None].repeat(1, 16)
    digests, splits = torch.zeros(images, 8, dtype=torch.uint8), torch.zeros(images).byte()
    data = Manifest(hashes, digests, splits, ["ant"])
    task = Classification(["ant", "bee"], (32, 32))
    task.provenance = Provenance(
        data=data.hash,
        manifest=data.to_dict(),
        parent=file_hash(parent) if parent is not None else None,
        command=f"made with {images} images",
        date="" if is_old else "2026-01-01T00:00:00+00:00",
    )
    save(path, task)
    if is_old:
        payload = torch.load(path)
        for name in KEPT_SINCE:
            del payload["regrow"]["provenance"][name]
        torch.save(payload, path)
    return path
