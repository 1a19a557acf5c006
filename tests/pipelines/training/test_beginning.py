"""A training run begins with everything checked, and nothing written before that."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from given import data as made_data
from given import labelled
from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.incremental.dynamic_sparsity import CUT_SHORT
from regrow.incremental.gating.gate import Gate
from regrow.incremental.growth import Growth
from regrow.incremental.warm_start import WarmStart
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.masks import mask_weights_, masks_of
from regrow.models.optimization import Optimization
from regrow.models.record.provenance import Provenance
from regrow.pipelines.training.beginning import Beginning, around
from regrow.pipelines.training.request import Request
from regrow.training.fit import Fit

Ask = Callable[..., Request]
SMALL = partial(Classification, net_args={"width": 4})
FIT = Fit(epochs=3, devices=1, images=0)


@pytest.fixture
def ask(data: GrowingData, tmp_path: Path) -> Ask:
    given = {"make": SMALL, "data": data, "fit": FIT, "run": tmp_path / "run"}
    return lambda **options: Request(**given | {"command_line": "now"} | options)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Write a network of fewer classes, which was trained for nine epochs."""
    torch.manual_seed(3)
    task = Classification(["x", "b"], (16, 16), net_args={"width": 8}, mean=(0.5, 0.5, 0.5))
    task.provenance = Provenance(data="0" * 64, command="then", date="2026", scratch_epochs=9)
    save(tmp_path / "old.ckpt", task)
    return tmp_path / "old.ckpt"


def test_a_fresh_network_begins_with_no_past(ask: Ask, tmp_path: Path) -> None:
    request = ask(settings={"seed": 0, "data": {"batch_size": 8}})
    beginning = Beginning.of(request)
    assert not (tmp_path / "run").exists()
    assert beginning.settings == {"seed": 0, "data.batch_size": 8, "processes": 1}
    assert beginning.warm is None
    beginning.open_()
    recorded = beginning.task.provenance
    assert recorded.data == request.data.snapshot.hash
    assert (recorded.parent, recorded.lineage, recorded.change) == (None, [], None)
    assert (recorded.command, recorded.scratch_epochs) == ("now", 3)
    assert recorded.settings == beginning.settings
    assert (tmp_path / "run" / "data.yaml").read_text() == "data:\n  batch_size: 8\n"
    assert beginning.let_channels_back_() is None
    assert WarmStart.read(tmp_path / "run") is None


def test_a_warm_start_takes_network_and_past_from_its_checkpoint(
    ask: Ask, old: Path, tmp_path: Path
) -> None:
    growth = Growth(warm_init="keep")
    beginning = Beginning.of(ask(warm_start=old, renamed={"x": "a"}, growth=growth))
    assert not (tmp_path / "run").exists()
    parent, task = load(old), beginning.task
    assert task.classes == ["a", "b"]
    assert task.net_args == {"width": 8}, "the architecture is that of the checkpoint"
    for name, weight in parent.net.named_parameters():
        assert torch.equal(task.net.get_parameter(name), weight), name
    beginning.open_()
    recorded = task.provenance
    assert (recorded.parent, recorded.scratch_epochs) == (file_hash(old), 9)
    assert [entry["command"] for entry in recorded.lineage] == ["then"]
    kept = load(tmp_path / "run" / "best.ckpt")  # the incumbent, should no epoch be better
    assert torch.equal(kept.net.head.weight, parent.net.head.weight)
    start = beginning.let_channels_back_()
    assert start is not None
    assert start == WarmStart.read(tmp_path / "run")
    assert dict(start.old_names) == {"a": "x", "b": "b"}
    assert start.num_wide_epochs == 0


def test_the_settings_of_this_run_go_around_the_network_of_another(old: Path) -> None:
    loaded = load(old)
    make = partial(SMALL, optimization=Optimization(lr=0.125), mean=(0.1, 0.1, 0.1))
    task = around(loaded, make)
    assert task.optimization.lr == 0.125
    assert task.mean.flatten().tolist() == [0.5] * 3, "what images are brought to stays"
    assert task.net is loaded.net
    assert task.provenance is loaded.provenance
    assert around(loaded.double(), make).mean.dtype == torch.float64


def test_a_masked_network_becomes_dense_if_that_is_asked_for(
    ask: Ask, old: Path, tmp_path: Path
) -> None:
    task = load(old)
    mask_weights_(task.net, {"head.weight": torch.arange(2 * 32).reshape(2, 32) % 2 == 0})
    save(tmp_path / "masked.ckpt", task)
    options: dict[str, Any] = {"warm_start": tmp_path / "masked.ckpt", "renamed": {"x": "a"}}
    assert masks_of(Beginning.of(ask(**options)).task.net)
    assert not masks_of(Beginning.of(ask(**options, sparsity="dense")).task.net)
    hasty = ask(**options, sparsity="regrow", fit=replace(FIT, patience=1))
    with pytest.raises(BadInput, match=re.escape(CUT_SHORT)):
        Beginning.of(hasty)


def test_what_the_gate_will_say_is_told_before_training(
    ask: Ask, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"warm_start": old, "renamed": {"x": "a"}}
    Beginning.of(ask(**options, gate=Gate(margin=0.0)))
    told = capsys.readouterr().out
    assert "the old model on the new validation images: accuracy" in told
    # 8 test images cannot decide about a margin of 0.
    assert "gate: " in told
    Beginning.of(ask(**options))
    assert "gate: " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"replay": 2.5}, r"^replay is 2\.5, it must be a share in \(0, 1\], or a number"),
        (
            {"make": partial(Classification, net="torchvision/squeezenet1_1", weights=None)},
            r"^net 'torchvision/squeezenet1_1' cannot take images of data\.size \[16, 16\] \(",
        ),
        (
            {"make": partial(Classification, net="torchvision/inception_v3", weights=None)},
            r"^net 'torchvision/inception_v3' cannot take images of data\.size",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_folder_is_made(
    ask: Ask, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        Beginning.of(ask(**options))
    assert not (tmp_path / "run").exists()


def test_a_batch_of_one_is_refused_where_statistics_need_two(ask: Ask) -> None:
    one = made_data(labelled() + labelled(4, "val"), size=(32, 32), batch_size=1)
    make = partial(Classification, net="torchvision/resnet18", weights=None)
    said = r"^net 'torchvision/resnet18' cannot take data\.batch_size 1 \("
    with pytest.raises(BadInput, match=said):
        Beginning.of(ask(make=make, data=one))


def test_regrowing_in_several_processes_is_refused(ask: Ask, old: Path) -> None:
    two = replace(FIT, devices=2, accelerator="cpu")
    request = ask(warm_start=old, renamed={"x": "a"}, sparsity="regrow", fit=two)
    with pytest.raises(BadInput, match=r"^sparsity regrow works in one process; set fit\.devices"):
        Beginning.of(request)
    assert Beginning.of(replace(request, sparsity="keep")).settings == {"processes": 2}
