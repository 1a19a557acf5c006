"""The checkpoint rebuilds the very network, and a hostile file gets one line."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regrow.errors import BadInput
from regrow.models.checkpoint import load, read, save
from regrow.models.classification import Classification
from regrow.models.optimization import Optimization
from regrow.models.record.provenance import Provenance
from regrow.models.segmentation import Segmentation


@pytest.fixture
def task() -> Classification:
    torch.manual_seed(0)
    task = Classification(["ant", "bee"], (32, 32), optimization=Optimization(lr=0.5)).eval()
    task.provenance = Provenance(
        data="d" * 8,
        manifest={
            "hashes": torch.arange(32, dtype=torch.uint8).view(2, 16),
            "digests": torch.zeros(2, 8, dtype=torch.uint8),
            "splits": torch.zeros(2, dtype=torch.uint8),
            "classes": ["ant"],
        },
        parent="p" * 8,
        scores={"val/accuracy": 0.5},
        command="python scripts/train.py",
    )
    return task


def _write(path: Path, made: Classification, /, **changes: Any) -> Path:
    payload = {"state_dict": made.state_dict(), "regrow": made.record()}
    payload["regrow"].update(changes)
    torch.save(payload, path)
    return path


def test_round_trip_is_bit_for_bit(task: Classification, tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt", task)
    back = load(tmp_path / "a.ckpt")
    images = task.example_images(3)
    assert torch.equal(back(images)["logits"], task(images)["logits"])
    assert back.classes == ["ant", "bee"]
    assert back.optimization == Optimization(lr=0.5)
    assert back.provenance.data == "d" * 8
    assert back.provenance.parent == "p" * 8
    assert back.provenance.scores == {"val/accuracy": 0.5}
    assert torch.equal(
        back.provenance.manifest["hashes"], torch.arange(32, dtype=torch.uint8).view(2, 16)
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_round_trip_in_another_precision_is_bit_for_bit(
    task: Classification, tmp_path: Path, dtype: torch.dtype
) -> None:
    task.to(dtype)
    with torch.no_grad():
        for parameter in task.net.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))  # more digits than float32 has
    task.net.head.weight.requires_grad_(False)
    save(tmp_path / "a.ckpt", task)
    back = load(tmp_path / "a.ckpt")
    state = back.net.state_dict()
    for name, value in task.net.state_dict().items():
        assert state[name].dtype == value.dtype, name
        assert torch.equal(state[name], value), name
    assert (back.mean.dtype, back.std.dtype) == (dtype, dtype)
    images = task.example_images(3)
    assert torch.equal(back(images)["logits"], task(images)["logits"])
    assert [p.requires_grad for p in back.parameters()] == [
        p.requires_grad for p in task.parameters()
    ]


@pytest.mark.parametrize(("rest", "head"), [("bfloat16", "float32"), ("float32", "float64")])
def test_layers_of_one_file_keep_precisions_of_their_own(
    task: Classification, tmp_path: Path, rest: str, head: str
) -> None:
    task.to(getattr(torch, rest))
    task.net.head.to(getattr(torch, head))
    save(tmp_path / "a.ckpt", task)
    back = load(tmp_path / "a.ckpt")
    found = {name: value.dtype for name, value in back.net.state_dict().items()}
    assert found == {name: value.dtype for name, value in task.net.state_dict().items()}
    assert back.mean.dtype == task.mean.dtype == getattr(torch, rest)


def test_file_is_plain_data(task: Classification, tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt", task)
    payload = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert payload["regrow"]["args"]["classes"] == ["ant", "bee"]
    assert "weights" not in payload["regrow"]["args"]


def test_loading_does_not_disturb_the_random_stream(task: Classification, tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt", task)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    load(tmp_path / "a.ckpt")
    assert torch.equal(torch.rand(1), expected)


def test_missing_file() -> None:
    with pytest.raises(BadInput, match=r"nowhere\.ckpt: no such checkpoint"):
        load(Path("nowhere.ckpt"))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_file(task: Classification, tmp_path: Path, share: float) -> None:
    save(tmp_path / "a.ckpt", task)
    content = (tmp_path / "a.ckpt").read_bytes()
    (tmp_path / "a.ckpt").write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadInput, match=r"a\.ckpt: (truncated|refused)"):
        load(tmp_path / "a.ckpt")


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_pickled_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"state_dict": {}, "regrow": Payload(marker)}, tmp_path / "a.ckpt")
    with pytest.raises(BadInput, match="pickled code"):
        load(tmp_path / "a.ckpt")
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps(Payload(marker), protocol=2))
    with pytest.raises(BadInput, match="pickled code"):
        load(tmp_path / "b.ckpt")
    assert not marker.exists()


def test_plain_state_dict_is_named_for_what_it_is(task: Classification, tmp_path: Path) -> None:
    torch.save(task.state_dict(), tmp_path / "a.ckpt")
    with pytest.raises(BadInput, match="not a regrow checkpoint"):
        load(tmp_path / "a.ckpt")


def test_file_from_the_future(task: Classification, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="format 99"):
        load(_write(tmp_path / "a.ckpt", task, version=99))


@pytest.mark.parametrize("name", ["os.system", "regrow.models.task.Task", "builtins.eval"])
def test_foreign_task_is_refused(task: Classification, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="names the task"):
        load(_write(tmp_path / "a.ckpt", task, task=name))


@pytest.mark.parametrize(
    "change",
    [
        {"net": "os.path.join"},
        {"net": "subprocess.Popen"},
        {"net": "timm/hf-hub:stranger/net"},
        {"net": "timm/hf_hub:stranger/net"},
        {"net": "torchvision/nothing_of_the_kind"},
        {"net_args": {"weights": "DEFAULT"}},
        {"net_args": {"pretrained": True}},
        {"net_args": {"checkpoint_path": "/etc/passwd"}},
        {"net_args": {"nested": {"pretrained": True}}},
        {"weights": "DEFAULT"},
        {"no_such_argument": 1},
        {"optimization": {"no_such": 1}},
        {"optimization": {"eps": torch.zeros(1)}},
        {"optimization": {"eps": "x"}},
        {"std": torch.ones(3)},
        {"classes": ["ant", "ant"]},
        {"classes": ["ant", "bee", "cat"]},
        {"classes": 5},
        {"size": [32]},
        {"mean": "grey"},
    ],
)
def test_hostile_arguments_are_refused(
    task: Classification, tmp_path: Path, change: dict[str, Any]
) -> None:
    args = {**task.arguments(), **change}
    with pytest.raises(BadInput, match=r"a\.ckpt: "):
        load(_write(tmp_path / "a.ckpt", task, args=args))


@pytest.mark.parametrize(
    "change",
    [
        {"settings": [1]},
        {"scores": "high"},
        {"parent": 3},
        {"manifest": {"classes": 5}},
        {"manifest": [1]},
    ],
)
def test_hostile_provenance_is_refused(
    task: Classification, tmp_path: Path, change: dict[str, Any]
) -> None:
    record = task.record()["provenance"]
    if isinstance(change.get("manifest"), dict):
        change = {"manifest": {**record["manifest"], **change["manifest"]}}
    with pytest.raises(BadInput, match=r"a\.ckpt: "):
        load(_write(tmp_path / "a.ckpt", task, provenance={**record, **change}))


def test_files_of_anything_are_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(50):
        path = tmp_path / f"{number}.ckpt"
        path.write_bytes(b"\x80\x02" * (number % 2) + random.bytes(int(random.integers(300))))
        with pytest.raises(BadInput, match=rf"{number}\.ckpt: (truncated|refused)"):
            read(path)


def test_other_kind_is_refused(tmp_path: Path) -> None:
    task = Segmentation(["road", "sky"], (32, 32))
    save(tmp_path / "a.ckpt", task)
    with pytest.raises(BadInput, match="segmentation network for masks, the data has labels"):
        load(tmp_path / "a.ckpt", kind="labels")


def test_read_gives_the_weights(task: Classification, tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt", task)
    state = read(tmp_path / "a.ckpt")["state_dict"]
    assert set(state) == {f"net.{name}" for name in task.net.state_dict()}


def test_a_file_of_an_earlier_version_loads_bit_for_bit() -> None:
    """A pruned and masked network, with the outputs that it had when it was written."""
    path = Path(__file__).parent / "files" / "pruned_before.ckpt"
    task = load(path)
    payload = torch.load(path, weights_only=True)
    assert "buffers" not in payload["regrow"]
    assert payload["regrow"]["structure"]["shapes"]
    for name, value in task.net.state_dict().items():
        assert torch.equal(value, payload["state_dict"][f"net.{name}"]), name
    kept = task.net.get_buffer("head.weight_kept")
    assert torch.equal(task.net.head.weight != 0, kept)
    with torch.no_grad():
        logits = task(task.example_images(2))["logits"]
    # To the last digits but a few: a machine's convolutions round in their own way.
    torch.testing.assert_close(logits, payload["expected"], rtol=1e-4, atol=1e-5)
    assert task.provenance.command == "python scripts/prune.py"
