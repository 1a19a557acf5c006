"""What an earlier version wrote is loaded, gone on with, warm-started and pruned to the same bits.

`files/before.tar.xz` was written at commit c88b6d5, before the rooms were built, on the images that
`images` makes here:

- `train.yaml` and `prune.yaml`, its configs;
- `run`, a training run that SIGTERM stopped after 4 of its 9 steps;
- `old`, a finished run with a memory of 6 images (`--replay=6`);
- `masked.ckpt` and `pruned.ckpt`, the network of `old` with half of its filters' weights masked,
  and with half of its channels cut;
- `warm`, a warm start from `old` on new images alone, stopped after 4 of 9 steps: its memory stands
  for the old ones, its teacher and its anchor are the old network;
- `wide`, a warm start from `pruned.ckpt` with `--sparsity=regrow`, stopped after 3 steps, in the
  stage in which the channels are back;
- `expected.pt`, the weights that the same version reached from each of these.
"""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from regrow.incremental.warm_start import WarmStart
from regrow.models.checkpoint import load, net_state, read
from regrow.models.masks import masks_of
from regrow.prune.channels.records import widths
from regrow.scripts import prune, train

COLORS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
WROTE_IN = "/tmp/before"  # the folder that the files name
# Another processor may round otherwise: with AVX-512, AVX2 and SSE4.1 by up to 3e-6 of a tensor's
# largest value. What a run must not do moves weights a hundred times more than what is allowed.
TOLERANCE = 1e-5


def images(root: Path, *classes: str) -> Path:
    """Make a folder of small images, 6 of each class to train on and 3 to validate and to test."""
    for split, first, count in (("train", 0, 6), ("val", 100, 3), ("test", 200, 3)):
        for name in classes:
            place = root / split / name
            place.mkdir(parents=True)
            for number in range(first, first + count):
                y, x = np.mgrid[:16, :16]
                wave = (x * (1 + number % 5) + y * (1 + number % 3) + 7 * number) % 32
                pixels = np.array(COLORS[name])[None, None] + wave[..., None] - 16
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    return root


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return the files of before in a folder of now."""
    with tarfile.open(Path(__file__).parent / "files" / "before.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    for file in (*tmp_path.rglob("start.json"), *tmp_path.rglob("data.yaml")):
        file.write_text(file.read_text().replace(WROTE_IN, str(tmp_path)))
    return tmp_path


def run(place: Path, name: str, root: Path, *more: str) -> dict[str, Tensor]:
    """Train by the config of before; return the weights of the last checkpoint."""
    words = [f"--config={place}/train.yaml", f"--data.root={root}", f"--run={place / name}", *more]
    assert train.main(words) == 0
    return net_state(read(place / name / "last.ckpt"))


def assert_as_before(place: Path, name: str, found: dict[str, Tensor]) -> None:
    wanted = torch.load(place / "expected.pt", weights_only=True)[name]
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        allowed = TOLERANCE * max(1.0, value.abs().max().item())
        torch.testing.assert_close(found[key], value, rtol=0, atol=allowed, msg=key)


def test_a_stopped_run_goes_on_to_the_same_weights(place: Path) -> None:
    root = images(place / "old_images", "red", "green")
    assert_as_before(place, "run", run(place, "run", root, "--resume=auto"))


def test_a_stopped_warm_start_goes_on_to_the_same_weights(place: Path) -> None:
    start = WarmStart.read(place / "warm")
    assert start is not None
    assert (start.parent, start.taught, start.anchor) == (f"{place}/old/best.ckpt", 1.0, 0.3)
    assert (start.history.num_known, start.history.num_old) == (6, 12)
    root = images(place / "new_images", "blue")
    assert_as_before(place, "warm", run(place, "warm", root, "--resume=auto"))


def test_a_run_stopped_while_channels_were_back_goes_on_to_the_same_weights(place: Path) -> None:
    root = images(place / "grown_images", "red", "green", "blue")
    options = ["--sparsity=regrow", "--fit.epochs=6", "--resume=auto"]
    assert_as_before(place, "wide", run(place, "wide", root, *options))
    assert not (place / "wide" / "wide").exists()


def test_a_warm_start_begins_from_the_same_networks(place: Path) -> None:
    root = images(place / "grown_images", "red", "green", "blue")
    masked = load(place / "masked.ckpt")
    kept = torch.cat([mask.flatten() for mask in masks_of(masked.net).values()])
    assert 0.3 < kept.float().mean() < 0.7
    assert load(place / "old" / "best.ckpt").classes == masked.classes == ["green", "red"]
    parent = f"--warm-start={place}/masked.ckpt"
    found = run(place, "masked_on", root, parent, "--sparsity=regrow")
    assert_as_before(place, "masked", found)
    whole, narrow = (widths(load(place / n).net) for n in ("old/best.ckpt", "pruned.ckpt"))
    assert sum(narrow.values()) < sum(whole.values())
    assert_as_before(
        place, "narrow", run(place, "pruned_on", root, f"--warm-start={place}/pruned.ckpt")
    )


def test_a_network_of_before_is_pruned_to_the_same_weights(place: Path) -> None:
    root = images(place / "old_images", "red", "green")
    words = [
        f"--config={place}/prune.yaml",
        f"--checkpoint={place}/old/best.ckpt",
        "--data.source=regrow.data.formats.ImageFolder",
        f"--data.root={root}",
        "--data.size=[16,16]",
        "--data.batch_size=4",
        "--accept_seen=true",
        "--search=null",
        f"--run={place / 'prune'}",
    ]
    assert prune.main(words) == 0
    assert_as_before(place, "prune", net_state(read(place / "prune" / "pruned.ckpt")))
