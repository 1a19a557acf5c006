"""Training loops of other people's own find and cut channels of any network."""

import copy

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from regrow.errors import BadInput
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import widths
from regrow.prune.channels.surgery import cut_
from regrow.prune.criteria import Fisher, Magnitude, Taylor, score_groups
from regrow.prune.plain_task import as_task
from regrow.prune.selection import lowest


def make() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(16, 3, 8, 8, generator=generator), torch.arange(16) % 2


def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    images, targets = batch()
    optimizer.zero_grad()
    loss = functional.cross_entropy(net(images), targets)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def test_a_loop_of_ones_own_goes_on_after_a_cut_with_its_momenta() -> None:
    net = make()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(3):
        step(net, optimizer)
    before, old = copy.deepcopy(net), optimizer.state[net[0].weight]["momentum_buffer"].clone()
    task = as_task(net, size=(8, 8))
    groups = find_groups(task).groups
    plan = lowest(groups, score_groups(task, groups, Magnitude()), share=0.5)
    gone = dict(cut_(task, plan, optimizer))
    assert task.net is net
    assert widths(net) == {"0": 6, "3": 4, "7": 2}
    kept = [place for place in range(12) if place not in gone["0", "out"]]
    assert torch.equal(net[0].weight, before[0].weight[kept])
    assert torch.equal(optimizer.state[net[0].weight]["momentum_buffer"], old[kept])
    assert {*optimizer.param_groups[0]["params"]} == {*net.parameters()}
    losses = [step(net, optimizer) for _ in range(30)]
    assert losses[-1] < losses[0]


class Own(LightningModule):
    """Somebody's training that knows nothing of regrow."""

    def __init__(self) -> None:
        super().__init__()
        self.net = make()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        return functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class CutAfterFirst(Callback):
    """Removes half of the channels after the first epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 0:
            task = as_task(pl_module.net, size=(8, 8))
            groups = find_groups(task).groups
            plan = lowest(groups, score_groups(task, groups, Magnitude()), share=0.5)
            cut_(task, plan, trainer.optimizers[0])
            self.after = copy.deepcopy(pl_module.net)


@pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",
    "ignore:The 'train_dataloader' does not have many workers",
    "ignore:The number of training batches",
)
def test_a_training_of_lightnings_goes_on_after_a_cut(tmp_path) -> None:
    module, cutting = Own(), CutAfterFirst()
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[cutting], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(*batch()), batch_size=8, num_workers=0))
    assert widths(module.net) == {"0": 6, "3": 4, "7": 2}
    moved = zip(module.net.parameters(), cutting.after.parameters(), strict=True)
    assert all(not torch.equal(now, then) for now, then in moved)


def test_criteria_of_gradients_take_the_loss_that_is_given() -> None:
    net = make()
    images, targets = batch()
    task = as_task(net, size=(8, 8), loss=functional.cross_entropy)
    groups = find_groups(task).groups
    (first, _) = Taylor(1).scores(task, groups, [(images, targets)])
    net.eval()
    maps = net[:3](images).detach().requires_grad_()
    (grad,) = torch.autograd.grad(functional.cross_entropy(net[3:](maps), targets), maps)
    # What each image's own loss owes to a channel: the mean over the batch made it smaller by 16.
    expected = (16 * maps * grad).sum((2, 3)).abs().mean(0).detach()
    torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-7)
    with pytest.raises(BadInput, match=r"this criterion needs a loss; make the task with as_task"):
        Fisher(1).scores(as_task(net, size=(8, 8)), groups, [(images, targets)])


class Several(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 8, 3), nn.Linear(8, 2), nn.Linear(8, 3)
        self.kind = kind

    def forward(self, x: Tensor):
        x = self.stem(x).mean((2, 3))
        one, two = self.one(x), self.two(x)
        return {"mapping": {"a": one, "b": two}, "tuple": (one, two), "list": [one, two]}[self.kind]


@pytest.mark.parametrize(
    ("kind", "names"),
    [("mapping", ["a", "b"]), ("tuple", ["output0", "output1"]), ("list", ["output0", "output1"])],
)
def test_networks_may_give_several_tensors(kind: str, names: list[str]) -> None:
    task = as_task(Several(kind), size=(8, 8))
    assert list(task(task.example_images(2))) == names
    found = find_groups(task)
    assert [group.layer for group in found.groups] == ["stem"]
    assert {"one", "two"} <= set(found.left_whole)


class Nested(Several):
    """Gives boxes, maps of two scales and a count, as detectors do."""

    def forward(self, x: Tensor):
        one, two = super().forward(x)
        return one, {"maps": [one, two], "scale": 2}, None


def test_tensors_in_lists_of_lists_are_named_by_their_path() -> None:
    task = as_task(Nested("tuple"), size=(8, 8))
    given = task(task.example_images(2))
    assert list(given) == ["output0", "output1.maps.0", "output1.maps.1"]
    assert torch.equal(given["output0"], given["output1.maps.0"])
    assert [group.layer for group in find_groups(task).groups] == ["stem"]


def test_a_network_that_gives_no_tensor_is_told() -> None:
    class Mute(nn.Module):
        def forward(self, x: Tensor) -> list[str]:
            return ["nothing"]

    task = as_task(Mute(), size=(8, 8))
    with pytest.raises(BadInput, match="Mute gives a list without tensors; it must give a tensor"):
        task(task.example_images(1))


def test_layers_that_must_stay_are_left_whole() -> None:
    found = find_groups(as_task(make(), size=(8, 8), fixed=["3"]))
    assert [group.layer for group in found.groups] == ["0"]
    assert "must stay" in found.left_whole["3"]


def test_images_are_given_to_the_network_as_they_are() -> None:
    task = as_task(nn.Sequential(nn.Identity(), nn.Conv2d(3, 3, 1)), size=(4, 4))
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(task.prepare(images), images)
    assert torch.equal(task.prepare(torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)),
                       torch.ones(1, 3, 4, 4))  # fmt: skip


def test_a_plain_network_has_no_score_and_no_checkpoint() -> None:
    task = as_task(make(), size=(8, 8))
    with pytest.raises(
        BadInput, match=r"Sequential was given as an object, .* save its state_dict"
    ):
        task.record()
    with pytest.raises(BadInput, match="Sequential has no score to prune under a budget by"):
        task.make_evidence()
