import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from regrow.errors import BadInput
from regrow.prune.channels.exactness import probe
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.proof import compare
from regrow.prune.channels.records import Group, Member
from regrow.prune.channels.surgery import cut_, exact_copy, mask_
from regrow.prune.channels.ways import untried_layer


class Shifted(nn.Module):
    """Channels that are read in other places than they lie at, behind something, before something.

    Whether they are shifted is for the test to say: only then is a cut of `a` wrong.
    """

    def __init__(self, before=torch.relu, after=torch.relu, shift: int = 1) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Linear(16, 3)
        self.before, self.after, self.shift = before, after, shift

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(self.a(x)).roll(self.shift, 1)
        return self.after(self.fc(self.b(x).relu().mean((2, 3))))


AFTER = {
    "clamp": lambda y: (y + 100).clamp(-8, 8),
    "sign": lambda y: (y + 100).sign(),
    "sigmoid": lambda y: (y + 1000).sigmoid(),
    "steps": lambda y: (y / 100).round(),
    "top": lambda y: functional.one_hot(y.argmax(1), 3).to(y) + 0 * y,
}


@pytest.mark.parametrize("after", AFTER)
def test_outputs_that_are_clipped_hide_no_wrong_cut(make_task, after):
    found = find_groups(make_task(Shifted(after=AFTER[after])))
    assert "what b gives changes" in found.left_whole["a"]
    assert [group.layer for group in found.groups] == ["b"]
    right = find_groups(make_task(Shifted(after=AFTER[after], shift=0)))
    assert [group.layer for group in right.groups] == ["a", "b"]


BEFORE = {
    "saturated": lambda x: (x + 1000).clamp(0, 6),
    "dead": lambda x: (x - 1000).relu(),
    "rounded": lambda x: (x / 1000).round(),
}


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("before", BEFORE)
def test_channels_that_bring_nothing_are_not_proved(make_task, before, shift):
    found = find_groups(make_task(Shifted(before=BEFORE[before], shift=shift)))
    assert "no image of the proof brings different values to b" in found.left_whole["a"]
    assert [group.layer for group in found.groups] == ["b"]


def test_a_layer_that_is_dead_in_one_network_is_proved_in_another(make_task):
    net = Shifted(shift=0)
    nn.init.constant_(net.a.bias, -1000.0)
    assert [group.layer for group in find_groups(make_task(net)).groups] == ["a", "b"]
    net.shift = 1
    assert "not exact" in find_groups(make_task(net)).left_whole["a"]


class Branch(nn.Module):
    """A layer that reads the stem on some images only, on none of the proof's."""

    threshold = 0.4

    def __init__(self, takes) -> None:
        super().__init__()
        self.stem, self.body, self.extra = (
            nn.Conv2d(3, 16, 3),
            nn.Conv2d(16, 8, 3),
            nn.Conv2d(16, 8, 3),
        )
        self.far, self.fc, self.takes = nn.Linear(8, 12), nn.Linear(12, 3), takes

    def forward(self, x: Tensor) -> Tensor:
        seen = self.stem(x).relu()
        y = self.body(seen)
        if self.takes(self, x):
            y = y + self.extra(seen)
        return self.fc(self.far(y.mean((2, 3))).relu())


def band(net: Branch, x: Tensor) -> bool:
    mean = float(x.mean())
    return 0.1234 < mean < 0.1235


LED = {
    "bool": lambda net, x: x.mean() > 5,
    "float": lambda net, x: float(x.mean()) > 5,
    "item": lambda net, x: x.mean().item() > net.threshold * 9,
    "int": lambda net, x: int(x.flatten(1).argmax(1)[0]) == 700,
    "equal": lambda net, x: torch.equal(x, x + 1),
    "band": band,
    "nan": lambda net, x: x.isnan().any(),
    "places": lambda net, x: len(torch.nonzero(x.mean((1, 2, 3)) > 5)) > 0,
    "training": lambda net, x: net.training and torch.rand(()) < 0.001,
}


@pytest.mark.parametrize("takes", LED)
def test_what_a_branch_reads_is_left_whole_though_no_image_takes_it(make_task, takes):
    found = find_groups(make_task(Branch(LED[takes])))
    # Without them the network would raise on the images that take it.
    for layer in ("stem", "body"):
        assert "cutting it fails" in found.left_whole[layer]
        assert "test_proof.py:" in found.left_whole[layer]
        assert "decides otherwise" in found.left_whole[layer]
    assert [group.layer for group in found.groups] == ["far"]


class Gated(nn.Module):
    """Channels that change places on some images or places only, which no number read decides."""

    def __init__(self, gate, shift: int) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3), nn.Linear(16, 3)
        self.gate, self.shift = gate, shift

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        y = self.gate(x, y, y.roll(self.shift, 1))
        return self.fc(self.b(y).relu().mean((2, 3)))


def means(x: Tensor) -> Tensor:
    return x.mean((1, 2, 3), keepdim=True)


GATES = {
    "where": lambda x, y, other: torch.where(means(x) > 5, other, y),
    "product": lambda x, y, other: y + (means(x) < -5).to(y) * (other - y),
    "vector": lambda x, y, other: torch.lerp(
        y, other, (means(x).flatten() > 5).to(y)[:, None, None, None]
    ),
    "places": lambda x, y, other: torch.where(x.amax(1, keepdim=True) > 5, other, y),
    "bright": lambda x, y, other: y + (means(x) - 0.45).relu() * other,
}


@pytest.mark.parametrize("gate", GATES)
def test_what_a_gate_lets_through_on_other_images_is_proved_too(make_task, gate):
    found = find_groups(make_task(Gated(GATES[gate], shift=1)))
    assert "cutting it is not exact" in found.left_whole["a"]
    assert [group.layer for group in found.groups] == ["b"]
    right = find_groups(make_task(Gated(GATES[gate], shift=0)))
    assert [group.layer for group in right.groups] == ["a", "b"]


UNLED = {
    "list": lambda net, x: max(x.mean((1, 2, 3)).tolist()) > 5,
    "array": lambda net, x: x.numpy().mean() > 5,
    "shape": lambda net, x: len(torch.unique(x)) < 2,
    "python": lambda net, x: net.training and random.random() < 0.001,
}


@pytest.mark.parametrize("takes", UNLED)
def test_nothing_is_proved_where_a_layer_could_not_be_run(make_task, takes):
    found = find_groups(make_task(Branch(UNLED[takes])))
    assert not found.groups
    for layer in ("stem", "body", "far"):
        assert "no image of the proof runs extra" in found.left_whole[layer]


def test_real_images_that_take_a_branch_prove_it(make_task):
    task = make_task(Branch(UNLED["list"]))
    task.net.takes = lambda net, x: max((x[:, 0] - x[:, 2]).mean((1, 2)).tolist()) > 0.9
    red = torch.zeros(1, 3, *task.size, dtype=torch.uint8)
    red[:, 0] = 255
    assert not find_groups(task).groups
    found = find_groups(task, images=red)
    assert [group.layer for group in found.groups] == ["far"]
    assert "cutting it fails" in found.left_whole["stem"]


HARMLESS = {
    "never": lambda net, x: False,
    "assert": lambda net, x: float(x.abs().max()) < 1e3,
    "print": lambda net, x: f"{float(x.mean())}",
    "weight": lambda net, x: float(net.stem.weight.mean()) > -1e9,
}


@pytest.mark.parametrize("takes", HARMLESS)
def test_numbers_that_decide_nothing_leave_nothing_whole(make_task, takes):
    def takes_all(net: Branch, x: Tensor) -> bool:
        is_taken = HARMLESS[takes](net, x)
        if takes == "assert":
            assert is_taken
        return is_taken

    found = find_groups(make_task(Branch(takes_all)))
    assert [group.layer for group in found.groups] == ["stem", "body", "far"]


class Scaled(nn.Linear):
    """Scales its outputs in training, by the first entries of what it has."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.scale = nn.Parameter(torch.linspace(0.5, 2, outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * self.scale[: y.shape[-1]] if self.training else y


class Trained(nn.Module):
    def __init__(self, middle: nn.Module, *, asserts: bool) -> None:
        super().__init__()
        self.stem, self.middle, self.fc = nn.Conv2d(3, 16, 3), middle, nn.Linear(32, 3)
        self.drop, self.asserts = nn.Dropout(0.5), asserts

    def forward(self, x: Tensor) -> Tensor:
        if self.asserts:
            assert float(x.abs().max()) < 1e6
        return self.fc(self.drop(self.middle(self.stem(x).relu().mean((2, 3))).relu()))


@pytest.mark.parametrize("asserts", [True, False])
def test_values_in_training_mode_are_compared(make_task, asserts):
    found = find_groups(make_task(Trained(Scaled(16, 32), asserts=asserts)))
    assert [group.layer for group in found.groups] == ["stem"]
    assert "not exact in training mode" in found.left_whole["middle"]
    # Dropout, which drops others in a narrower network, is no reason.
    found = find_groups(make_task(Trained(nn.Linear(16, 32), asserts=asserts)))
    assert [group.layer for group in found.groups] == ["stem", "middle"]


def test_a_network_that_does_not_train_is_left_whole_with_its_own_reason(make_task):
    class Refuses(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                raise ValueError("where are the targets?")
            return super().forward(x)

    found = find_groups(make_task(Trained(Refuses(16, 32), asserts=False)))
    assert not found.groups
    assert "the network itself fails in training mode" in found.left_whole["stem"]
    assert "where are the targets?" in found.left_whole["stem"]


def test_a_network_that_makes_tensors_of_its_own_is_run_in_float64(make_task):
    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            weights = torch.linspace(1, 2, 14)[:, None]  # of the default type
            return self.fc((self.stem(x) @ weights.expand(14, 14)).mean((2, 3)))

    assert [group.layer for group in find_groups(make_task(Made())).groups] == ["stem"]
    assert torch.get_default_dtype() == torch.float32


def test_memory_that_runs_out_is_no_reason_to_leave_a_layer_whole(make_task):
    class Heavy(nn.Conv2d):
        """Takes more than there is where it is cut."""

        def forward(self, x: Tensor) -> Tensor:
            if x.dtype == torch.float64:
                torch.empty(2**60, dtype=torch.uint8)
            return super().forward(x)

    net = nn.Sequential(nn.Conv2d(3, 8, 3), Heavy(8, 8, 3), nn.Conv2d(8, 3, 3))
    with pytest.raises(BadInput, match="not enough memory to prove what can be pruned from Seq"):
        find_groups(make_task(net))


def test_a_layer_that_is_never_used_is_told_only_where_images_decide(make_task):
    assert untried_layer(make_task(Branch(HARMLESS["never"]))) is None
    assert untried_layer(make_task(Branch(UNLED["list"]))) == "extra"
    assert untried_layer(make_task(Branch(LED["bool"]))) is None


def test_comparing_tells_where_two_networks_differ(make_task):
    task = make_task("plain")
    units = tuple((unit,) for unit in range(16))
    members = [Member("body.0.0", "out", units), Member("body.0.1", "out", units)]
    right = Group("body.0.0", (*members, Member("body.1.0", "in", units)))
    wrong = Group("body.0.0", (*members, Member("body.1.0", "in", units[1:] + units[:1])))
    masked, cut = exact_copy(task), exact_copy(task)
    mask_(masked, [(right, [2])])
    cut_(cut, [(wrong, [2])])
    found = compare(masked, cut, [(right, [2])])
    assert found.error > 1e-3
    assert "the output moves" in str(found.reason)
    assert probe(task, [(right, [2])]) is None
