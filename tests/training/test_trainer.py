"""Training is the loop one would write by hand."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.models.checkpoint import load, net_state, read
from regrow.models.classification import Classification
from regrow.models.optimization import Optimization
from regrow.models.task import Penalty, Task
from regrow.training.distillation import Distillation, DistillationPenalty
from regrow.training.fit import Fit
from regrow.training.trainer import fine_tune_, make_trainer, train

EPOCHS = 3


class HeadSize(Penalty):
    """The mean square of the head's weights, tenfold."""

    name = "head"

    def __init__(self, layer: str = "head") -> None:
        super().__init__()
        self.layer = layer

    def forward(self, task: Task, images: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        return 10 * getattr(task.net, self.layer).weight.square().mean()


def make_task(**options) -> Classification:
    torch.manual_seed(0)
    optimization = Optimization("sgd", lr=0.1, momentum=0.9, weight_decay=0.01, warmup=0.25)
    return Classification(
        ["a", "b"], (16, 16), net_args={"width": 4}, optimization=optimization, **options
    )


def by_hand(task: Classification, data: GrowingData) -> dict[str, Tensor]:
    """Nesterov's SGD with decay of filters alone, linear warm-up and cosine, no framework."""
    net = task.net.train()
    velocity = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    loader = data.train_dataloader()
    for epoch in range(EPOCHS):
        loader.sampler.set_epoch(epoch)
        for step, (images, labels) in enumerate(loader):
            done = (epoch + step / 3) / EPOCHS
            rate = 0.1 * done / 0.25
            if done >= 0.25:
                rate = 0.1 * (1 + math.cos(math.pi * (done - 0.25) / 0.75)) / 2
            loss = F.cross_entropy(net((images / 255 - task.mean) / task.std), labels)
            loss = loss + 10 * net.head.weight.square().mean()
            grads = torch.autograd.grad(loss, list(net.parameters()))
            with torch.no_grad():
                for (name, parameter), grad in zip(net.named_parameters(), grads, strict=True):
                    decayed = grad + 0.01 * parameter * (parameter.ndim > 1)
                    velocity[name] = 0.9 * velocity[name] + decayed
                    parameter -= rate * (decayed + 0.9 * velocity[name])
    return net.state_dict()


def test_training_is_the_loop_written_by_hand(data: GrowingData, tmp_path: Path) -> None:
    expected = by_hand(make_task(), data)
    task = make_task(penalties=[HeadSize()])
    fit = Fit(epochs=EPOCHS, images=0, accelerator="cpu", devices=1)
    train(task, data, make_trainer(task, fit, tmp_path), tmp_path)
    last = net_state(read(tmp_path / "last.ckpt"))
    for name, value in expected.items():
        torch.testing.assert_close(last[name], value, rtol=1e-3, atol=1e-5)
    again = make_task(penalties=[HeadSize()])
    fine_tune_(again, data, fit, tmp_path)
    for name, value in expected.items():
        torch.testing.assert_close(again.net.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_penalties_of_one_fit_end_with_it(data: GrowingData, tmp_path: Path) -> None:
    fit = Fit(epochs=1, images=0, accelerator="cpu", devices=1)
    expected, task, plain = make_task(penalties=[HeadSize()]), make_task(), make_task()
    fine_tune_(expected, data, fit, tmp_path)
    fine_tune_(plain, data, fit, tmp_path)
    fine_tune_(task, data, fit, tmp_path, penalties=[HeadSize()])
    assert torch.equal(task.net.head.weight, expected.net.head.weight)
    assert not torch.equal(task.net.head.weight, plain.net.head.weight)
    assert (len(task.penalties), len(expected.penalties)) == (0, 1)
    with pytest.raises(AttributeError, match="no_head"):
        fine_tune_(expected, data, fit, tmp_path, penalties=[HeadSize("no_head")])
    assert len(expected.penalties) == 1


def test_a_teacher_without_weight_changes_no_bit(data: GrowingData, tmp_path: Path) -> None:
    fit, states = Fit(epochs=2, images=0, accelerator="cpu", devices=1), []
    teacher = with_dropout(make_task()).train()
    for penalties in ([], [DistillationPenalty(teacher, Distillation(weight=0.0))]):
        task = with_dropout(make_task())
        fine_tune_(task, data, fit, tmp_path, penalties=penalties)
        states.append(task.net.state_dict())
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())


def with_dropout(task: Classification) -> Classification:
    task.net.one = torch.nn.Sequential(task.net.one, torch.nn.Dropout(0.5))
    return task


def test_a_checkpoint_knows_nothing_of_the_teacher(data: GrowingData, tmp_path: Path) -> None:
    fit, files = Fit(epochs=1, images=0, accelerator="cpu", devices=1), []
    for run, penalties in (
        ("plain", []),
        ("taught", [DistillationPenalty(make_task(), Distillation(features=1.0))]),
    ):
        task = make_task(penalties=penalties)
        train(task, data, make_trainer(task, fit, tmp_path / run), tmp_path / run)
        files.append(read(tmp_path / run / "last.ckpt"))
    plain, taught = files
    assert taught["state_dict"].keys() == plain["state_dict"].keys()
    assert taught["regrow"]["args"] == plain["regrow"]["args"]
    assert torch.equal(
        load(tmp_path / "taught" / "last.ckpt").net.head.weight, task.net.head.weight
    )


def test_no_epochs_leave_the_network_as_it_is(data: GrowingData, tmp_path: Path) -> None:
    task, same = make_task().eval(), make_task().eval()
    fine_tune_(task, data, Fit(epochs=0), tmp_path)
    for name, value in same.net.state_dict().items():
        assert torch.equal(task.net.state_dict()[name], value)
    with pytest.raises(BadInput, match="fit.epochs is 0"):
        make_trainer(task, Fit(epochs=0), tmp_path)


def test_training_ends_with_the_weights_of_the_best_epoch(
    data: GrowingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task()
    scores = iter([0.2, 0.9, 0.4])

    def scored(self: Task) -> None:
        self.log("val/accuracy", next(scores))

    monkeypatch.setattr(Task, "on_validation_epoch_end", scored)
    fit = Fit(epochs=EPOCHS, images=0, accelerator="cpu", devices=1)
    train(task, data, make_trainer(task, fit, tmp_path), tmp_path)
    best, last = read(tmp_path / "best.ckpt"), read(tmp_path / "last.ckpt")
    assert (best["epoch"], last["epoch"]) == (1, 2)
    assert best["global_step"] == 6
    for name, value in task.net.state_dict().items():
        assert torch.equal(value, net_state(best)[name])
    assert not torch.equal(task.net.head.weight, net_state(last)["head.weight"])
    assert task.provenance.scores == {"val/accuracy": pytest.approx(0.9)}
    assert not task.training


class NaNLater(Penalty):
    """Breaks the weights in the second epoch."""

    name = "nan"

    def forward(self, task: Task, images: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        factor = math.nan if task.current_epoch else 0.0
        return factor * task.net.head.weight.sum()


def test_training_that_diverges_is_bad_input_and_leaves_what_was_saved(
    data: GrowingData, tmp_path: Path
) -> None:
    task = make_task(penalties=[NaNLater()])
    fit = Fit(epochs=EPOCHS, images=0, accelerator="cpu", devices=1)
    with pytest.raises(BadInput, match=r"training has left NaN or infinity in \S+: lower the opt"):
        train(task, data, make_trainer(task, fit, tmp_path), tmp_path)
    for name in ("best.ckpt", "last.ckpt"):
        saved = read(tmp_path / name)
        assert saved["epoch"] == 0
        assert all(value.isfinite().all() for value in net_state(saved).values())
    task = make_task(penalties=[NaNLater()])
    with pytest.raises(BadInput, match="training has left NaN or infinity"):
        fine_tune_(task, data, fit, tmp_path)
