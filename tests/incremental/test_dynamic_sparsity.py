"""Masks that move in training keep as many weights, and the best ones."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.incremental import dynamic_sparsity
from regrow.incremental.dynamic_sparsity import DynamicSparsity, move_masks_, moved
from regrow.models.checkpoint import load, read
from regrow.models.classification import Classification
from regrow.models.masks import is_n_of_m, mask_weights_, masks_of
from regrow.models.task import Task
from regrow.training.fit import Fit
from regrow.training.trainer import make_trainer, train

MaskedTask = Callable[..., Task]
Stop = Callable[[int], Callback]
Equal = Callable[[Path, Path], None]
EPOCHS = 3  # of three batches


def counts(net: nn.Module) -> dict[str, int]:
    return {name: int(kept.sum()) for name, kept in masks_of(net).items()}


def by_brute_force(weight: Tensor, grad: Tensor, kept: Tensor, count: int, block: int) -> Tensor:
    """Move a mask one weight at a time; `block` consecutive weights go together."""
    sizes, gradients, mask = weight.flatten().tolist(), grad.flatten().tolist(), kept.flatten()
    result = mask.tolist()
    for _ in range(count):
        result[min((i for i, k in enumerate(result) if k), key=lambda i: abs(sizes[i]))] = False
    for start in range(0, len(result), block):
        inside = range(start, start + block)
        missing = sum(mask[i].item() for i in inside) - sum(result[i] for i in inside)
        for _ in range(missing):
            grown = max((i for i in inside if not result[i]), key=lambda i: abs(gradients[i]))
            result[grown] = True
    return torch.tensor(result).view_as(kept)


@pytest.mark.parametrize("count", [0, 1, 5, 12])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_move_is_that_of_brute_force(count: int, seed: int) -> None:
    torch.manual_seed(seed)
    weight, grad = torch.randn(4, 6), torch.randn(4, 6)
    kept = torch.zeros(24, dtype=torch.bool)
    kept[torch.randperm(24)[:12]] = True
    kept = kept.view(4, 6)
    assert torch.equal(
        moved(weight, grad, kept, count), by_brute_force(weight, grad, kept, count, 24)
    )


@pytest.mark.parametrize("count", [1, 5, 12])
def test_a_move_inside_of_blocks_is_that_of_brute_force(count: int) -> None:
    torch.manual_seed(count)
    weight, grad = torch.randn(3, 8), torch.randn(3, 8)
    kept = torch.tensor([[1, 1, 0, 0, 0, 1, 1, 0], [1, 0, 1, 0, 1, 0, 0, 1]] * 2)[:3].bool()
    after = moved(weight, grad, kept, count, dim=1)
    assert torch.equal(after, by_brute_force(weight, grad, kept, count, 4))
    assert (after.view(3, 2, 4).sum(2) == 2).all()
    # Filters have their inputs in the second dimension too, transposed ones in the first.
    filters = [x[:, :, None, None] for x in (weight, grad, kept)]
    assert torch.equal(moved(*filters, count, dim=1), after[:, :, None, None])
    assert torch.equal(moved(weight.T, grad.T, kept.T, count, dim=0), after.T)


def test_a_move_by_hand() -> None:
    weight = torch.tensor([[0.1, -2.0, 0.0, 0.0, 3.0]])
    grad = torch.tensor([[0.5, 9.0, 0.2, -0.7, 9.0]])
    kept = torch.tensor([[True, True, False, False, True]])
    assert moved(weight, grad, kept, 1).tolist() == [[False, True, False, True, True]]
    # What is dropped with the largest gradient of all grows at once.
    assert moved(weight, grad, kept, 2).tolist() == [[False, True, False, True, True]]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_grown_weights_are_zero_and_begin_without_momentum(
    optimizer: str, masked_task: MaskedTask
) -> None:
    task = masked_task(optimizer)
    stepper = task.configure_optimizers()
    images, labels = task.example_images(4), torch.tensor([0, 1, 0, 1])
    for _ in range(2):
        stepper.zero_grad()
        task.losses(task(images), labels)["ce"].backward()
        task.on_before_optimizer_step(stepper)
        stepper.step()
    stepper.zero_grad()
    task.losses(task(images), labels)["ce"].backward()
    name = "three.0.0.weight"
    weight, old = task.net.get_parameter(name), masks_of(task.net)[name]
    state = {k: v.clone() for k, v in stepper.state[weight].items() if k != "step"}
    before, sizes = weight.detach().clone(), counts(task.net)
    move_masks_(task, stepper, 0.3)
    new = masks_of(task.net)[name]
    grown, dropped, stayed = new & ~old, old & ~new, old & new
    assert sizes == counts(task.net)
    assert grown.sum() == dropped.sum() > 0
    assert not weight[grown | dropped].any()
    assert torch.equal(weight[stayed], before[stayed])
    assert state
    for key, value in stepper.state[weight].items():
        if key != "step":
            assert not value[grown | dropped].any()
            assert torch.equal(value[stayed], state[key][stayed])
    # The next step trains what has grown, and leaves what was dropped.
    task.on_before_optimizer_step(stepper)
    stepper.step()
    assert weight[grown].count_nonzero() == grown.sum()
    assert not weight[~new].any()


def test_frozen_weights_keep_their_masks(masked_task: MaskedTask) -> None:
    task = masked_task()
    task.net.stem.requires_grad_(False)
    stepper = task.configure_optimizers()
    task.losses(task(task.example_images(4)), torch.tensor([0, 1, 0, 1]))["ce"].backward()
    before = masks_of(task.net)
    move_masks_(task, stepper, 0.5)
    after = masks_of(task.net)
    assert torch.equal(before["stem.0.weight"], after["stem.0.weight"])
    assert not torch.equal(before["three.0.0.weight"], after["three.0.0.weight"])


def test_masks_of_the_pattern_keep_it() -> None:
    torch.manual_seed(0)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    pattern = torch.tensor([True, False, False, True])
    weights = {n: w for n, w in task.net.named_parameters() if w.ndim == 4 and w.shape[1] % 4 == 0}
    masks = {
        n: pattern.repeat(w.shape[1] // 4).view(1, -1, 1, 1).expand_as(w).clone()
        for n, w in weights.items()
    }
    mask_weights_(task.net, masks)
    stepper = task.configure_optimizers()
    task.losses(task(task.example_images(4)), torch.tensor([0, 1, 0, 1]))["ce"].backward()
    move_masks_(task, stepper, 0.5)
    for name, kept in masks_of(task.net).items():
        assert is_n_of_m(kept, 2, 4)
        assert kept.sum() == masks[name].sum()
        assert not torch.equal(kept, masks[name])


def test_masks_change_at_each_interval_and_at_the_end() -> None:
    masks = DynamicSparsity(share=0.4, interval=10, until=0.5)
    assert [step for step in range(80) if masks.is_due(step, 80)] == [0, 10, 20, 30, 40]
    shares = [masks.share_at(step, 80) for step in (0, 10, 20, 30, 40)]
    expected = [0, 0.2 * (1 + 1 / math.sqrt(2)), 0.2, 0.2 * (1 - 1 / math.sqrt(2)), 0]
    assert shares == pytest.approx(expected)
    # The last change is always one of the run's steps.
    whole = DynamicSparsity(interval=10, until=1.0)
    assert [step for step in range(35) if whole.is_due(step, 35)] == [0, 10, 20, 30, 34]


def test_what_is_back_falls_as_a_cube() -> None:
    masks = DynamicSparsity(back=0.8, until=0.5)
    backs = [masks.back_at(step, 80) for step in (0, 10, 20, 40, 60)]
    assert backs == pytest.approx([0.8, 0.8 * 27 / 64, 0.1, 0, 0])


def test_a_move_to_another_size_by_hand() -> None:
    weight = torch.tensor([[0.1, -2.0, 0.0, 0.0, 3.0]])
    grad = torch.tensor([[0.5, 9.0, 0.2, -0.7, 9.0]])
    kept = torch.tensor([[True, True, False, False, True]])
    assert moved(weight, grad, kept, 0, grown=1).tolist() == [[True, True, False, True, True]]
    assert moved(weight, grad, kept, 2, grown=0).tolist() == [[False, False, False, False, True]]
    assert moved(weight, grad, kept, 3, grown=2).tolist() == [[False, True, False, False, True]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"back": 1.5}, "share of 1.5 of the masked weights"),
        ({"share": 1.0}, "share of weights that move is 1.0"),
        ({"until": 0.0}, r"until 0.0 of the run.*\(0, 1\]"),
        ({"interval": 0}, "every 0 steps"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        DynamicSparsity(**options)


def fitted(
    task: Task,
    data: GrowingData,
    run: Path,
    ema: float | None,
    *others: Callback,
    back: float = 0.0,
    until: float = 1.0,
    patience: int | None = None,
    **more: Any,
) -> None:
    fit = Fit(EPOCHS, patience, 0.5, ema, accelerator="cpu", devices=1, images=0)
    watchers = [DynamicSparsity(back, 0.5, interval=2, until=until), *others]
    train(task, data, make_trainer(task, fit, run, watchers=watchers), run, **more)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_training_moves_masks_and_keeps_the_cost(
    data: GrowingData,
    tmp_path: Path,
    ema: float | None,
    monkeypatch: pytest.MonkeyPatch,
    masked_task: MaskedTask,
) -> None:
    seen = []

    def watching(weight: Tensor, grad: Tensor, kept: Tensor, *rest: Any) -> Tensor:
        seen.append((grad[~kept].count_nonzero().item(), weight[~kept].count_nonzero().item()))
        return moved(weight, grad, kept, *rest)

    monkeypatch.setattr(dynamic_sparsity, "moved", watching)
    task = masked_task()
    before, sizes = masks_of(task.net), counts(task.net)
    fitted(task, data, tmp_path, ema)
    assert len(seen) == 5 * len(before)  # steps 0, 2, 4, 6, 8 of 9
    assert all(gradients and not weights for gradients, weights in seen)
    for net in (task.net, load(tmp_path / "best.ckpt").net, load(tmp_path / "last.ckpt").net):
        assert counts(net) == sizes
        for name, kept in masks_of(net).items():
            assert not net.get_parameter(name)[~kept].any()
    last = masks_of(load(tmp_path / "last.ckpt").net)
    assert any(not torch.equal(last[name], kept) for name, kept in before.items())
    best = load(tmp_path / "best.ckpt").net
    assert all(torch.equal(masks_of(best)[n], kept) for n, kept in masks_of(task.net).items())


class Watch(Callback):
    """Note after every step how many weights are kept, and whether there is a best checkpoint."""

    def __init__(self, best: Path) -> None:
        self.best, self.counts, self.found = best, [], []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.counts.append(counts(pl_module.net))
        self.found.append(self.best.is_file())


def test_weights_come_back_and_go_again(
    data: GrowingData, tmp_path: Path, masked_task: MaskedTask
) -> None:
    task, watch = masked_task(), Watch(tmp_path / "best.ckpt")
    before, all_of = counts(task.net), {n: m.numel() for n, m in masks_of(task.net).items()}
    fitted(task, data, tmp_path, None, watch, back=0.5, until=0.5)  # 9 steps, the fifth is the end
    for name, size in before.items():
        # The mask of the head is 2:4, by chance.
        masked = all_of[name] - size if name != "head.weight" else 0
        first, second, third = (int(0.5 * (1 - k / 5) ** 3 * masked) for k in (0, 2, 4))
        expected = [first, first, second, second, third, 0, 0, 0, 0]
        assert [step[name] - size for step in watch.counts] == expected
    assert watch.found == [False] * 6 + [True] * 3, "no wide network is the best one"
    for net in (task.net, load(tmp_path / "best.ckpt").net, load(tmp_path / "last.ckpt").net):
        assert counts(net) == before


def test_training_does_not_end_while_weights_are_back(
    data: GrowingData, tmp_path: Path, masked_task: MaskedTask
) -> None:
    with pytest.raises(BadInput, match="fit.patience may end the run while"):
        fitted(masked_task(), data, tmp_path, None, back=0.5, patience=2)


@pytest.mark.parametrize("back", [0.0, 0.5])
@pytest.mark.parametrize(("ema", "step"), [(None, 3), (0.9, 4), (None, 5), (None, 8)])
def test_a_stopped_run_goes_on_to_the_same_weights_and_masks(
    data: GrowingData,
    tmp_path: Path,
    ema: float | None,
    step: int,
    back: float,
    masked_task: MaskedTask,
    stop_at: Stop,
    assert_equal_weights: Equal,
) -> None:
    fitted(masked_task(), data, tmp_path / "whole", ema, back=back)
    with pytest.raises(SIGTERMException):
        fitted(masked_task(), data, tmp_path / "stopped", ema, stop_at(step), back=back)
    stopped = tmp_path / "stopped" / "last.ckpt"
    assert read(stopped)["global_step"] == step
    fitted(load(stopped), data, tmp_path / "stopped", ema, back=back, resume=stopped)
    for name in ("last.ckpt", "best.ckpt"):
        whole, again = tmp_path / "whole" / name, tmp_path / "stopped" / name
        one, other = masks_of(load(whole).net), masks_of(load(again).net)
        assert one.keys() == other.keys()
        assert all(torch.equal(kept, other[n]) for n, kept in one.items())
        assert_equal_weights(whole, again)


def test_a_network_without_masks_is_trained_as_it_is(data: GrowingData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    fitted(task, data, tmp_path, None)
    assert not masks_of(task.net)
