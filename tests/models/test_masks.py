"""Masked weights are zero through all that happens to a network, to the last one."""

import copy
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.models.checkpoint import load, net_state, read, save
from regrow.models.classification import Classification
from regrow.models.masks import (
    Hold,
    carried,
    is_n_of_m,
    mask_weights_,
    masks_of,
    pattern_dim,
    rebuild_,
    record,
    remask_,
    sparsity,
    unmask_,
    zero_masked_,
)
from regrow.models.onnx.graph import export_graph
from regrow.models.optimization import Optimization
from regrow.training.fit import Fit
from regrow.training.reloading import load_weights_
from regrow.training.trainer import fine_tune_, make_trainer, train

EPOCHS = 2


def half_of(net: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Return masks of all filters and matrices that keep about half of each."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(weight.shape, generator=generator) < 0.5
        for name, weight in net.named_parameters()
        if weight.ndim > 1
    }


def make_task(optimizer: str = "sgd", **options: Any) -> Classification:
    torch.manual_seed(0)
    optimization = Optimization(optimizer, lr=0.1, weight_decay=0.1)
    args = {"net_args": {"width": 4}, "optimization": optimization}
    return Classification(["a", "b"], (16, 16), **args, **options)


def make_masked(optimizer: str = "sgd", **options: Any) -> tuple[Classification, dict[str, Tensor]]:
    task = make_task(optimizer, **options)
    masks = half_of(task.net)
    mask_weights_(task.net, masks)
    return task, masks


def assert_zero(state: dict[str, Tensor], masks: dict[str, Tensor]) -> None:
    assert masks
    for name, mask in masks.items():
        assert state[name][~mask].count_nonzero() == 0, name
        # What is kept is trained, or drawn: none of it is zero.
        assert state[name][mask].count_nonzero() == mask.sum(), name


def assert_same_masks(net: nn.Module, masks: dict[str, Tensor]) -> None:
    found = masks_of(net)
    assert found.keys() == masks.keys()
    assert all(torch.equal(found[name], mask) for name, mask in masks.items())


# ---- masks of a network


def test_masking_sets_zeros_and_nothing_else() -> None:
    net = nn.Linear(3, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, -2, 3], [-4, 5, 6]]))
    weight, bias, names = net.weight, net.bias.clone(), list(net.state_dict())
    mask = torch.tensor([[True, False, True], [False, True, True]])
    mask_weights_(net, {"weight": mask})
    assert net.weight is weight
    assert net.weight.tolist() == [[1, 0, 3], [0, 5, 6]]
    assert not net.weight.signbit().any()
    assert torch.equal(net.bias, bias)
    assert list(net.state_dict()) == names
    mask.fill_(True)
    assert masks_of(net)["weight"].tolist() == [[True, False, True], [False, True, True]]


def test_what_is_masked_stays_masked() -> None:
    net = nn.Linear(4, 1)
    mask_weights_(net, {"weight": torch.tensor([[True, True, False, False]])})
    mask_weights_(net, {"weight": torch.tensor([[True, False, True, False]])})
    assert masks_of(net)["weight"].tolist() == [[True, False, False, False]]
    assert net.weight[0, 1:].tolist() == [0, 0, 0]


def test_shares_by_hand() -> None:
    net = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 5, bias=False))
    assert (sparsity(net).masked, sparsity(net).overall) == (0, 0)
    mask = torch.tensor([[True] * 4, [True, False, False, False]])
    mask_weights_(net, {"0.weight": mask})
    found = sparsity(net)
    assert found.by_weight == {"0.weight": 3 / 8}
    assert (found.masked, found.overall) == (3 / 8, 3 / 20)
    other = torch.zeros(5, 2, dtype=torch.bool)
    mask_weights_(net, {"1.weight": other})
    assert (sparsity(net).masked, sparsity(net).overall) == (13 / 18, 13 / 20)


def test_a_mask_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    net = nn.Sequential(nn.Linear(3, 2))
    before = copy.deepcopy(net.state_dict())
    fits = torch.zeros(2, 3, dtype=torch.bool)
    with pytest.raises(BadInput, match=r"'1\.weight', a parameter which the network lacks"):
        mask_weights_(net, {"0.weight": fits, "1.weight": fits})
    with pytest.raises(BadInput, match=r"'0\.scale', a parameter which the network lacks"):
        mask_weights_(net, {"0.weight": fits, "0.scale": fits})
    with pytest.raises(BadInput, match=r"0\.bias has 1 dimension; biases and scales"):
        mask_weights_(net, {"0.weight": fits, "0.bias": torch.zeros(2, dtype=torch.bool)})
    with pytest.raises(BadInput, match=r"torch\.bool of shape \(3, 2\); it must be .*\(2, 3\)"):
        mask_weights_(net, {"0.weight": fits.T})
    with pytest.raises(BadInput, match=r"the mask of 0\.weight is torch\.float32"):
        mask_weights_(net, {"0.weight": fits.float()})
    assert not masks_of(net)
    assert torch.equal(net[0].weight, before["0.weight"])


def test_copies_have_masks_of_their_own() -> None:
    task, masks = make_masked()
    twin = copy.deepcopy(task)
    unmask_(task.net)
    assert_same_masks(twin.net, masks)
    assert_zero(twin.double().net.state_dict(), masks)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([1, 1, 0, 0, 0, 1, 0, 1], True),
        ([1, 0, 1, 0, 0, 0, 0, 0], True),
        ([0, 1, 1, 1, 0, 0, 0, 0], False),
        ([0, 0, 1, 1, 1, 1, 0, 0], True),  # blocks do not overlap
        ([1, 1, 0, 0, 1, 1], False),  # a block and a half
    ],
)
def test_two_of_four_by_hand(row: list[int], expected: bool) -> None:
    kept = torch.tensor([row], dtype=torch.bool)
    assert is_n_of_m(kept) is expected
    assert is_n_of_m(kept.T, dim=0) is expected


def test_blocks_of_a_convolution_run_over_its_input_channels() -> None:
    kept = torch.zeros(1, 4, 1, 3, dtype=torch.bool)
    kept[0, :2] = True  # two channels, at each of three places
    assert is_n_of_m(kept)
    kept[0, 3, 0, 2] = True
    assert not is_n_of_m(kept)
    assert is_n_of_m(kept, 3, 4)
    assert not is_n_of_m(kept, 1, 2)


# ---- training


def by_hand(optimizer: str, data: GrowingData, masks: dict[str, Tensor], clip: float) -> dict:
    """Train a network whose weights are products with constant masks, clipped; no framework."""

    class Product(nn.Module):
        def __init__(self, mask: Tensor) -> None:
            super().__init__()
            self.mask = mask

        def forward(self, weight: Tensor) -> Tensor:
            return weight * self.mask

    task = make_task(optimizer)
    net = task.net.train()
    for name, mask in masks.items():
        parametrize.register_parametrization(
            net.get_submodule(name.removesuffix(".weight")), "weight", Product(mask)
        )
    stepper = task.optimization.build(net)
    loader = data.train_dataloader()
    norms = []
    for epoch in range(EPOCHS):
        loader.sampler.set_epoch(epoch)
        for step, (images, labels) in enumerate(loader):
            for group in stepper.param_groups:
                group["lr"] = task.optimization.rate((epoch + step / len(loader)) / EPOCHS)
            stepper.zero_grad()
            F.cross_entropy(net((images / 255 - task.mean) / task.std), labels).backward()
            norms.append(nn.utils.clip_grad_norm_(net.parameters(), clip))
            stepper.step()
    assert min(norms) > clip  # the norm decides about every step
    for name in masks:
        parametrize.remove_parametrizations(
            net.get_submodule(name.removesuffix(".weight")), "weight"
        )
    return net.state_dict()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_is_that_of_a_network_without_the_weights(
    data: GrowingData, tmp_path: Path, optimizer: str
) -> None:
    task, masks = make_masked(optimizer)
    expected = by_hand(optimizer, data, masks, 0.1)
    fit = Fit(epochs=EPOCHS, clip=0.1, accelerator="cpu", devices=1)
    fine_tune_(task, data, fit, tmp_path)
    for name, value in task.net.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)
    assert_zero(task.net.state_dict(), masks)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_masks_live_through_training_files_and_resuming(
    data: GrowingData, tmp_path: Path, optimizer: str, precision: str, ema: float | None
) -> None:
    task, masks = make_masked(optimizer, channels_last=precision == "bf16-mixed")
    options = {"ema": ema, "precision": precision, "images": 0}
    fit = Fit(epochs=EPOCHS, accelerator="cpu", devices=1, **options)
    train(task, data, make_trainer(task, fit, tmp_path), tmp_path)
    assert_same_masks(task.net, masks)
    assert_zero(task.net.state_dict(), masks)
    for name in ("best.ckpt", "last.ckpt"):
        assert_zero(net_state(read(tmp_path / name)), masks)
        assert_same_masks(load(tmp_path / name).net, masks)
    resumed = load(tmp_path / "last.ckpt")
    longer = Fit(epochs=EPOCHS + 1, accelerator="cpu", devices=1, **options)
    trainer = make_trainer(resumed, longer, tmp_path)
    train(resumed, data, trainer, tmp_path, resume=tmp_path / "last.ckpt")
    assert trainer.global_step == 3 * (EPOCHS + 1)
    assert_zero(resumed.net.state_dict(), masks)
    assert_zero(net_state(read(tmp_path / "last.ckpt")), masks)


class Stubborn(torch.optim.Optimizer):
    """Moves every weight, whatever its gradient."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= 1


def test_weights_are_zero_after_a_step_of_any_optimizer() -> None:
    task, masks = make_masked()
    optimizer = Stubborn(task.net.parameters())
    hold = Hold(task.net, optimizer)
    hold.clear_gradients()  # there are none yet
    before = task.net.head.bias.clone()
    optimizer.step()
    assert_zero(task.net.state_dict(), masks)
    assert torch.equal(task.net.head.bias, before - 1)


def test_what_was_trained_without_masks_is_set_to_zero_again_or_not_saved(tmp_path: Path) -> None:
    task, masks = make_masked()
    Stubborn(task.net.parameters()).step()
    with pytest.raises(BadInput, match=r"stem.*was trained without its mask; call zero_masked_"):
        save(tmp_path / "a.ckpt", task)
    zero_masked_(task.net)
    assert_zero(task.net.state_dict(), masks)
    save(tmp_path / "a.ckpt", task)


def test_other_masks_take_the_place_of_old_ones(tmp_path: Path) -> None:
    task, masks = make_masked()
    others = half_of(task.net, seed=1)
    before = task.net.head.weight.detach().clone()
    remask_(task.net, {"head.weight": others["head.weight"]})
    assert_same_masks(task.net, masks | {"head.weight": others["head.weight"]})
    kept, grown = masks["head.weight"] & others["head.weight"], others["head.weight"]
    assert torch.equal(task.net.head.weight[kept], before[kept])
    assert task.net.head.weight.count_nonzero() == kept.sum() < grown.sum()
    with pytest.raises(BadInput, match="a mask for 'tail'"):
        remask_(task.net, {"tail": grown})


def test_the_weights_of_a_file_come_with_its_masks(tmp_path: Path) -> None:
    best, masks = make_masked()
    save(tmp_path / "best.ckpt", best)
    task = make_task()
    mask_weights_(task.net, half_of(task.net, seed=1))
    load_weights_(task, tmp_path / "best.ckpt")
    assert_same_masks(task.net, masks)
    assert_zero(task.net.state_dict(), masks)


@pytest.mark.parametrize(
    ("row", "expected"),
    [([1, 1, 0, 0], 1), ([1, 1, 1, 0], None), ([1, 0, 0, 0], 1), ([1, 0, 0, 0, 0, 0, 0, 0], None)],
)
def test_a_pattern_is_meant_where_it_is_used(row: list[int], expected: int | None) -> None:
    kept = torch.tensor([row, row]).bool()
    assert pattern_dim(nn.Linear(2, 4), kept) == expected
    filters = kept.T[:, :, None, None]
    assert pattern_dim(nn.ConvTranspose2d(4, 2, 1), filters) == (None if expected is None else 0)


def test_weights_grow_again_when_asked_to(data: GrowingData, tmp_path: Path) -> None:
    task, masks = make_masked()
    unmask_(task.net)
    assert not masks_of(task.net)
    assert_zero(task.net.state_dict(), masks)
    fine_tune_(task, data, Fit(epochs=1, accelerator="cpu", devices=1), tmp_path)
    for name, mask in masks.items():
        assert task.net.state_dict()[name][~mask].count_nonzero() > 0
    save(tmp_path / "a.ckpt", task)
    assert not masks_of(load(tmp_path / "a.ckpt").net)


# ---- surgery


def test_masks_follow_weights_that_move() -> None:
    net = nn.Linear(3, 2)
    mask_weights_(net, {"weight": torch.tensor([[True, False, True], [True, True, False]])})
    old = net.weight.detach().clone()
    with carried(net):
        moved = torch.cat([net.weight.detach()[[1, 0]], torch.zeros(1, 3)])
        net.weight = nn.Parameter(moved)
    kept = [[True, True, False], [True, False, True], [True, True, True]]
    assert masks_of(net)["weight"].tolist() == kept
    assert torch.equal(net.weight, torch.cat([old[[1, 0]], torch.zeros(1, 3)]))


def test_surgery_that_fails_leaves_masks_as_they_were() -> None:
    net = nn.Linear(3, 2)
    mask_weights_(net, half_of(net))
    before, masks = net.weight.detach().clone(), masks_of(net)
    with pytest.raises(ZeroDivisionError), carried(net):
        raise ZeroDivisionError
    assert torch.equal(net.weight, before)
    assert_same_masks(net, masks)


def test_weights_that_are_no_numbers_are_not_taken_for_masked_ones() -> None:
    net = nn.Linear(3, 2)
    mask_weights_(net, {"weight": torch.tensor([[True, False, True]] * 2)})
    with torch.no_grad():
        net.weight[1, 2] = float("nan")
    with pytest.raises(BadInput, match="weight holds weights that are not a number"), carried(net):
        pass
    assert masks_of(net)["weight"].tolist() == [[True, False, True]] * 2


# ---- files


def test_bits_of_a_record_by_hand() -> None:
    net = nn.Linear(3, 3)
    mask = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 1]], dtype=torch.bool)
    mask_weights_(net, {"weight": mask})
    assert {n: bits.tolist() for n, bits in record(net).items()} == {
        "weight": [0b10100001, 0b10000000]
    }
    other = nn.Linear(3, 3)
    other.load_state_dict(net.state_dict())
    rebuild_(other, record(net))
    assert torch.equal(masks_of(other)["weight"], mask)


def test_a_zero_that_is_not_masked_stays_free(tmp_path: Path) -> None:
    task, _ = make_masked()
    masks = {name: mask.clone() for name, mask in masks_of(task.net).items()}
    with torch.no_grad():
        task.net.head.weight.zero_()
    save(tmp_path / "a.ckpt", task)
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["regrow"]["masks"].keys()
    back = load(tmp_path / "a.ckpt")
    assert_same_masks(back.net, masks)
    for name, value in task.net.state_dict().items():
        assert torch.equal(back.net.state_dict()[name], value)


def _broken(task: Classification, path: Path, masks: Any) -> Path:
    payload = {"state_dict": task.state_dict(), "regrow": task.record() | {"masks": masks}}
    torch.save(payload, path)
    return path


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (["head.weight"], "masks are not a record"),
        ({"tail.weight": torch.zeros(1, dtype=torch.uint8)}, "'tail.weight', a parameter which"),
        ({3: torch.zeros(1, dtype=torch.uint8)}, "a mask for 3, a parameter which"),
        ({"head.bias": torch.zeros(1, dtype=torch.uint8)}, "head.bias has 1 dimension"),
        ({"head.weight": torch.zeros(3, dtype=torch.uint8)}, "mask of head.weight is not 32 bits"),
        ({"head.weight": torch.zeros(4, 1, dtype=torch.uint8)}, "is not 32 bits"),
        ({"head.weight": torch.zeros(4)}, "is not 32 bits"),
        ({"head.weight": 4}, "is not 32 bits"),
        ({"head.weight": torch.zeros(4, dtype=torch.uint8)}, "head.weight is not zero where"),
    ],
    ids=["list", "name", "number", "bias", "few", "shape", "floats", "no tensor", "weights"],
)
def test_masks_of_a_strange_file_are_refused(tmp_path: Path, masks: Any, message: str) -> None:
    path = _broken(make_task(), tmp_path / "a.ckpt", masks)
    with pytest.raises(BadInput, match=rf"a\.ckpt: .*{message}"):
        load(path)


def test_a_file_from_before_masks_loads(tmp_path: Path) -> None:
    task = make_task()
    payload = {"state_dict": task.state_dict(), "regrow": task.record()}
    del payload["regrow"]["masks"]
    torch.save(payload, tmp_path / "a.ckpt")
    assert not masks_of(load(tmp_path / "a.ckpt").net)


def test_an_exported_graph_holds_the_same_zeros(tmp_path: Path) -> None:
    task, masks = make_masked()
    export_graph(task.eval(), tmp_path / "a.onnx")
    held = {
        weight.name: torch.from_numpy(onnx.numpy_helper.to_array(weight).copy())
        for weight in onnx.load(tmp_path / "a.onnx").graph.initializer
    }
    assert_zero({name: held[f"task.net.{name}"] for name in masks}, masks)
    assert not any(name.endswith("kept") for name in held)
