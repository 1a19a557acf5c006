"""What all tests share: where real data is, data made in a moment, a cache, and one thread."""

import copy
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regrow.data.module import GrowingData
from regrow.data.source import Content, Source
from regrow.data.targets.labels import Item
from regrow.logs import show_log
from regrow.models.checkpoint import net_state, read

ROOT = Path(__file__).parents[1]
# What a stranger may write where something else was expected.
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 255, 2**31, -(2**63), 2**64, 10**30, 10**300,
    0.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan"),
    "", " ", "a", "0", "-1", "1e999", "nan", "null", "..", "../../etc/passwd", "/etc/passwd", "~",
    "\x00", "\x1b[2J\x1b]0;title\x07", "a\nb\r", "\u202egnp.exe", "\ud800", "\udcff\udcfe",
    "e\u0301", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))", "`|**", "[red]a[/red]",
    "os.system", "pickle.loads", "torchvision.transforms.v2.Lambda",
    "{split}", "%s", "*", "a" * 5000,
    [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, [0] * 1000,
    {"class_path": "subprocess.Popen", "init_args": {"args": "true"}},
)  # fmt: skip
DEEP = 300  # lists in each other: what Python can still write, and nobody means


def real_data() -> Path:
    """Return the folder with the real sets, whether it exists or not."""
    return Path(os.environ.get("REGROW_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(autouse=True)
def _shown_log() -> None:
    """Print what the library logs, as every command does."""
    show_log()


@pytest.fixture
def data_root() -> Path:
    """Return the folder with the real sets, or skip."""
    folder = real_data()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set REGROW_DATA")
    return folder


@pytest.fixture(scope="session")
def cifar10_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that torchvision reads CIFAR-10 from, unpacked if need be, or skip."""
    folder = real_data() / "cifar10"
    if (folder / "cifar-10-batches-py").is_dir():
        return folder
    if not (folder / "unpack.py").is_file():
        pytest.skip(f"no CIFAR-10 at {folder}; set REGROW_DATA")
    root = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, str(folder / "unpack.py"), str(root)], check=True)
    return root


class Noise(Source):
    """Images of noise, whose labels nothing can generalise."""

    def read(self, root: Path | None) -> Content:
        random = np.random.default_rng(0)
        items = []
        for split, count in (("train", 24), ("val", 8), ("test", 8)):
            for number in range(count):
                pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                items.append(Item(f"{split}{number}", pixels, "ab"[number % 2], split))
        return Content("labels", ["a", "b"], items)


@pytest.fixture
def data() -> GrowingData:
    data = GrowingData(Noise(), size=(16, 16), batch_size=8)
    data.order_classes(data.classes)
    return data


@pytest.fixture
def assert_equal_weights() -> Callable[[Path, Path], None]:
    """Return a function that compares the weights of two checkpoints, bit for bit."""

    def compare(one: Path, other: Path) -> None:
        first, second = net_state(read(one)), net_state(read(other))
        assert first.keys() == second.keys()
        assert all(torch.equal(value, second[name]) for name, value in first.items())

    return compare


@pytest.fixture(scope="session")
def mutated_bytes() -> Callable[[bytes, int], bytes]:
    """Return a function that damages the content of a file, as a function of a seed."""
    return _mutated_bytes


@pytest.fixture(scope="session")
def mutated_plain() -> Callable[[Any, int], Any]:
    """Return a function that puts odd values into nested plain data, by a seed."""
    return _mutated_plain


def _mutated_bytes(content: bytes, seed: int) -> bytes:
    """Flip bits, cut, insert, copy, repeat or wipe stretches of bytes, up to eight times."""
    draw, made = random.Random(seed), bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        start = draw.randrange(len(made) + 1)
        stop = min(len(made), start + draw.choice((1, 1, 2, 4, 16, 256)))
        kind = draw.randrange(7)
        if kind == 0 and made:
            place = min(start, len(made) - 1)
            made[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del made[start:]
        elif kind == 2:
            del made[start:stop]
        elif kind == 3:
            made[start:start] = draw.randbytes(draw.choice((1, 4, 64)))
        elif kind == 4:
            other = draw.randrange(len(made) + 1)
            made[start:stop] = made[other : other + stop - start]
        elif kind == 5:
            made[start:start] = made[start:stop] * draw.choice((1, 10, 100))
        else:
            made[start:stop] = bytes([draw.choice((0, 10, 34, 91, 123, 255))]) * (stop - start)
    return bytes(made)


def _mutated_plain(values: Any, seed: int) -> Any:
    """Replace, drop, double, rename, swap or deepen nodes of plain data, up to three times."""
    draw, made = random.Random(seed), [copy.deepcopy(values)]
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(made))
        parent, key = draw.choice(places)
        kind, odd = draw.randrange(8), copy.deepcopy(draw.choice(ODD_VALUES))
        if kind < 4 or parent is made:
            parent[key] = odd
        elif kind == 4:
            del parent[key]
        elif kind == 5 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif kind == 5:
            parent[str(odd)] = parent.pop(key)
        else:
            other, place = draw.choice(places)
            parent[key] = copy.deepcopy(other[place])
    if draw.randrange(10) == 0:
        parent, key = draw.choice(list(_places(made)))
        for _ in range(draw.choice((1, 2, 50, DEEP))):
            parent[key] = [parent[key]]
    return made[0]


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    """List each node of nested lists and mappings by what holds it and its place there."""
    waiting = [values]
    while waiting:
        node = waiting.pop()
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            yield node, key
            if isinstance(value, list | dict):
                waiting.append(value)


@pytest.fixture(scope="session")
def _fingerprints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fingerprints")


@pytest.fixture(autouse=True)
def _no_cache_of_the_user(monkeypatch: pytest.MonkeyPatch, _fingerprints: Path) -> None:
    monkeypatch.setenv("REGROW_CACHE", str(_fingerprints))


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait half a second, not five, for workers of a loader that ended with an error."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.5)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # small nets: several would wait for each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests where there is no GPU."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
