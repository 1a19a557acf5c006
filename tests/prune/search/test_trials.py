import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.distillation_losses import Shared
from regrow.models.optimization import Optimization
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.plain_task import as_task
from regrow.prune.removal import Channels
from regrow.prune.search.scoring import Scorer
from regrow.prune.search.settings import Search
from regrow.prune.search.trials import Trials
from regrow.prune.selection import Selection
from regrow.prune.target import Target

PLAIN_SGD = Optimization("sgd", lr=0.5, momentum=0.0, weight_decay=0.0, nesterov=False)


def noise(count: int, size: int = 16, images: int = 4, seed: int = 7):
    generator = torch.Generator().manual_seed(seed)
    shape = (images, 3, size, size)
    labels = torch.arange(images) % 3
    return [
        (torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), labels)
        for _ in range(count)
    ]


def colours(count: int):
    """Batches of images of one colour each, which a network of any size tells apart."""
    generator = torch.Generator().manual_seed(7)
    shape = (16, 3, 1, 1)
    for _ in range(count):
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        yield images.expand(16, 3, 8, 8).contiguous(), torch.zeros(16)


def cutting(task: Task, made: list[Task] | None = None) -> Callable[..., Task]:
    """Cut a copy, and nothing else; the copies are kept in a list."""

    def as_cut(plan, batches) -> Task:
        work = clone(task)
        cut_(work, plan)
        if made is not None:
            made.append(work)
        return work

    return as_cut


def classifier(**options) -> Classification:
    torch.manual_seed(0)
    options = {"net_args": {"width": 8}} | options
    return Classification(["a", "b", "c"], (16, 16), **options).eval()


def some_plan(task: Task):
    groups = find_groups(task).groups
    return [(group, list(range(group.num_units // 2))) for group in groups]


class Shifted(nn.Module):
    """Adds up two layers of which one has units that are constant, the other units that tell."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.a(x).relu(), self.b(x).relu()], 1)
        return self.head(both.mean((2, 3)))


def shifted() -> Task:
    """Only the bias of the head learns, and the loss is the distance from the unpruned network."""
    torch.manual_seed(3)
    net = Shifted().requires_grad_(False)
    for layer in (net.a, net.b):
        layer.weight.copy_(torch.rand(8, 3, 1, 1) + 0.5)
        layer.bias.zero_()
    net.head.weight.copy_(torch.randn(3, 16))
    # Without these all outputs are shifted alike.
    net.a.weight[:4], net.a.bias[:4] = 0, 2.0
    # Without these they are less so as cut, but not alike for all images.
    net.b.weight[:4] *= 0.7
    net.head.bias.requires_grad_(True)
    return as_task(net, (8, 8), loss=lambda outputs, targets: 0 * outputs.sum())


# The distance is a sum of squares of the bias: its gradient times this is the way to the minimum.
def best_rate(task: Task, images: Tensor) -> float:
    return 3 * float(task(images)["output"].detach().var()) / 2


def fits(task: Task, batches) -> Optimization:
    return Optimization("sgd", lr=best_rate(task, batches[1][0]), momentum=0.0, weight_decay=0.0)


@torch.no_grad()
def test_what_a_shift_of_the_bias_recovers_is_worth_more_than_it_was_as_cut() -> None:
    task = shifted()
    a, b = find_groups(task).groups
    assert (a.layer, b.layer) == ("a", "b")
    units = [0, 1, 2, 3]
    batches = list(colours(2))
    scorer = Scorer(task, task, batches, 16, 1)
    trials = Trials(cutting(task), scorer, batches, fits(task, batches), 40)
    as_cut = [scorer([(group, units)]).distance for group in (a, b)]
    assert as_cut[0] > 2 * as_cut[1] > 0
    after = [trials([(group, units)]) for group in (a, b)]
    assert after[0] == pytest.approx(0, abs=1e-9)
    # What the units of the other layer gave is told apart from its mean by nothing that learns.
    scored, trained = (
        task.net.b(task.prepare(images)).relu().mean((2, 3))[:, units]
        @ task.net.head.weight[:, 8:12].T
        for images, _ in batches
    )
    rest = (scored - trained.mean(0)).square().mean()
    assert after[1] == pytest.approx(float(rest / task(batches[0][0])["output"].var()), rel=1e-4)
    assert after[1] > 1e-4


def test_a_search_with_trials_takes_the_candidate_that_recovers() -> None:
    batches = list(colours(2))
    taken = {}
    for trials in (0, 9):
        task = shifted()
        channels = Channels(
            task,
            Target(macs=0.8),
            Selection(round_to=4, max_share=0.5),
            search=Search(candidates=9, num_images=16, num_batches=1, trials=trials),
            optimization=fits(task, batches),
        )
        cut = channels.cut_(clone(task), batches, {"macs": 0.8}, tightly=True)
        assert cut is not None
        taken[trials] = list(cut.units)
    assert taken == {0: ["b"], 9: ["a"]}


def targets_of(kind: type[Task]):
    if kind is Classification:
        return torch.tensor([0, 2])
    if kind is Segmentation:
        return torch.zeros(2, 64, 64, dtype=torch.uint8)
    boxes, labels = torch.tensor([[5.0, 5.0, 40.0, 40.0]]), torch.tensor([1])
    return [{"boxes": boxes, "labels": labels}] * 2


def any_task(kind: type[Task]):
    """A task of a kind, with batches for it."""
    torch.manual_seed(0)
    task = kind(["a", "b", "c"], (64, 64))
    return task, [(images, targets_of(kind)) for images, _ in noise(4, 64, images=2)]


KINDS = [Classification, Detection, Segmentation]


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_goes_down_the_gradient_of_loss_and_distillation(kind: type[Task]) -> None:
    task, batches = any_task(kind)
    made: list[Task] = []
    scorer = Scorer(task, task, batches, 2, 1)
    plan = some_plan(task)
    Trials(cutting(task, made), scorer, batches, PLAIN_SGD, 1)(plan)
    cut = clone(task)
    cut_(cut, plan)
    images, targets = batches[1]
    cut.net.train()
    outputs = cut(images)
    with torch.no_grad():
        task.net.eval()
        wanted = task(images)
    loss = sum(task.losses(outputs, targets).values())
    if kind is Classification:
        pair = [given["logits"].log_softmax(1) for given in (outputs, wanted)]
        loss += functional.kl_div(*pair, reduction="batchmean", log_target=True)
    else:
        loss += task.distillation_loss(outputs, wanted, Shared(), 1.0)
    loss.backward()
    # Half of the way: past the warm-up of a tenth, on a cosine.
    rate = 0.5 * 0.5 * (1 + math.cos(math.pi * 4 / 9))
    grads = {name: p.grad for name, p in cut.net.named_parameters() if p.grad is not None}
    assert len(grads) > 3
    for name, grad in grads.items():
        old, new = cut.net.get_parameter(name), made[0].net.get_parameter(name)
        torch.testing.assert_close(new, old - rate * grad, msg=name)


class Watched(Classification):
    """Remembers the first pixel of all images that it is trained on."""

    def losses(self, outputs, targets):
        self.net.seen.append(self.last)
        return super().losses(outputs, targets)

    def prepare(self, images):
        self.last = images[:, 0, 0, 0].tolist()
        return super().prepare(images)


def test_no_image_that_is_scored_is_trained_on() -> None:
    torch.manual_seed(0)
    task = Watched(["a", "b", "c"], (16, 16), net_args={"width": 8}).eval()
    batches = noise(5)
    for place, (images, _) in enumerate(batches):
        images[:, 0, 0, 0] = torch.arange(4) + 10 * place
    made: list[Task] = []

    def as_cut(plan, given) -> Task:
        made.append(clone(task))
        made[-1].net.seen = []
        held = [int(n) for images, _ in given for n in images[:, 0, 0, 0]]
        assert held == [20, 21, 22, 23, 30, 31, 32, 33, 40, 41, 42, 43]
        return made[-1]

    # Six images: a batch and half of the next one, whose other half stays unused.
    scorer = Scorer(task, task, batches, 6, 1)
    scored = [int(n) for images in scorer.images for n in images[:, 0, 0, 0]]
    assert scored == [0, 1, 2, 3, 10, 11]
    Trials(as_cut, scorer, batches, PLAIN_SGD, 5)([])
    ways = [[20, 21, 22, 23], [30, 31, 32, 33], [40, 41, 42, 43]]
    assert made[0].net.seen == [*ways, *ways[:2]]


@pytest.mark.parametrize("kind", KINDS)
def test_the_unpruned_network_its_modes_and_random_numbers_stay(kind: type[Task]) -> None:
    task, batches = any_task(kind)
    task.net.train()
    next(iter(task.net.children())).eval()
    channels = Channels(task)
    scorer = Scorer(task, task, batches, 2, 1)

    def as_cut(plan, given) -> Task:
        return channels.as_cut(task, plan, given)

    def state() -> list[object]:
        modes = [module.training for module in task.modules()]
        flags = [(p.requires_grad, p.grad) for p in task.net.parameters()]
        return [modes, flags, task.optimization, list(task.penalties), task.momenta]

    before, states = state(), copy.deepcopy(task.net.state_dict())
    random = torch.get_rng_state()
    after = Trials(as_cut, scorer, batches, PLAIN_SGD, 3, seed=5)(some_plan(task))
    assert 0 < after < float("inf")
    assert state() == before
    assert all(torch.equal(v, states[name]) for name, v in task.net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_it_is_a_function_of_its_seed_and_not_of_what_ran_before() -> None:
    task = classifier(net="torchvision/mobilenet_v3_small", net_args={"dropout": 0.5})
    batches = noise(4)
    scorer = Scorer(task, task, batches, 4, 1)

    def after(seed: int) -> float:
        trials = Trials(cutting(task), scorer, batches, Optimization(lr=1e-2), 3, seed)
        torch.rand(7)
        return trials([])

    assert after(1) == after(1) != after(2)


def test_training_that_diverges_is_worth_nothing() -> None:
    task, batches = classifier(), noise(3)
    scorer = Scorer(task, task, batches, 4, 1)
    wild = Optimization("sgd", lr=1e30, momentum=0.0)
    assert Trials(cutting(task), scorer, batches, wild, 4)(some_plan(task)) == float("inf")


@pytest.mark.parametrize("last", [0, 1])
def test_images_that_leave_none_to_train_on_are_refused(last: int) -> None:
    task, batches = classifier(), noise(2)
    # A last image alone cannot be trained on: it may have no variance.
    batches += noise(1, images=last) if last else []
    scorer = Scorer(task, task, batches, 5, 1)
    said = "search.trials: the 5 training images that are scored leave no batch to train on; lower"
    with pytest.raises(BadInput, match=said):
        Trials(cutting(task), scorer, batches, PLAIN_SGD, 1)
