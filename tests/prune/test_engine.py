import copy
import math
from dataclasses import dataclass
from inspect import signature

import pytest
import torch
from torch.nn import functional

from regrow.errors import BadInput
from regrow.metrics import budget as budget_module
from regrow.metrics.budget import Budget
from regrow.prune.channels import exactness
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.proof import Findings
from regrow.prune.channels.records import Group, Groups, Member, widths
from regrow.prune.cost_model import costs_of
from regrow.prune.criteria import Criterion, Random, Taylor
from regrow.prune.engine import prune
from regrow.prune.masking import SingleWeights, Weights
from regrow.prune.removal import Channels
from regrow.prune.selection import Chooser, Selection
from regrow.prune.target import Target
from regrow.training.evaluation import Evaluation


@dataclass
class Scored:
    value: float
    num_images: int = 10
    images_by_class = torch.zeros(0)

    def score(self) -> float:
        return self.value


class Counted:
    """A loader that says how often it was read."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def __iter__(self):
        self.log.append(self.name)
        generator = torch.Generator().manual_seed(3)
        for _ in range(2):
            images = torch.randint(0, 256, (4, 3, 16, 16), generator=generator, dtype=torch.uint8)
            yield images, torch.randint(0, 3, (4,), generator=generator)


class Bench:
    """Runs the engine with scores that are made up: one for each call, the last for the rest."""

    def __init__(self, *scores: float) -> None:
        self.log: list[str] = []
        self.scores = list(scores)
        self.recovered: list[dict[str, int]] = []

    def evaluate(self, task, loader) -> Evaluation:
        for _ in loader:
            pass
        value = self.scores.pop(0) if len(self.scores) > 1 else self.scores[0]
        return Evaluation("accuracy", value, {}, {}, Scored(value), 10)

    def recover(self, task, index) -> None:
        self.log.append("recover")
        self.recovered.append(widths(task.net))
        with torch.no_grad():
            for parameter in task.net.parameters():
                parameter += 0.01

    def run(self, task, removal=None, **options):
        """Prune a task, with options of the engine and, where there is no removal, of Channels."""
        options = {"adapts": False, "recover": self.recover} | options
        if removal is None:
            chosen = {"selection": Selection(round_to=2)}
            names = [name for name in signature(Channels).parameters if name in options]
            removal = Channels(task, **chosen | {name: options.pop(name) for name in names})
        return prune(
            task,
            removal,
            train_loader=Counted(self.log, "train"),
            val_loader=Counted(self.log, "val"),
            test_loader=Counted(self.log, "test"),
            evaluate=self.evaluate,
            **options,
        )


@pytest.fixture(autouse=True)
def _plain_intervals(monkeypatch):
    def interval(before, after, *_):
        difference = after.score() - before.score()
        return difference - 0.001, difference + 0.001

    monkeypatch.setattr(budget_module, "paired_interval", interval)


@pytest.mark.parametrize("name", ["residual", "concat", "depthwise", "grouped", "squeeze", "flat"])
def test_the_target_is_met_and_not_overshot_by_more_than_a_legal_step(make_task, name):
    task = make_task(name)
    dense = costs_of(task)["macs"]
    result = Bench(0.9).run(task, num_steps=3)
    assert result.stopped == "target"
    assert result.cost_after.macs <= 0.5 * dense < result.cost_before.macs
    # A channel less in the stem alone would be a smaller step than this.
    assert result.cost_after.macs > 0.3 * dense
    # A large legal step may meet the next ceiling too; that step is then left out.
    assert {step.index for step in result.steps} <= {1, 2, 3}
    macs = [dense, *(step.macs for step in result.steps)]
    assert all(after < before for before, after in zip(macs, macs[1:], strict=False))
    assert all(step.error <= 1e-9 for step in result.steps)
    assert result.steps[-1].macs == result.cost_after.macs
    assert result.steps[-1].params == result.cost_after.params


def test_steps_spread_the_removed_cost(make_task):
    task = make_task("residual")
    dense = costs_of(task)["macs"]
    result = Bench(0.9).run(task, num_steps=4, selection=Selection(round_to=1))
    for step, share in zip(result.steps, [0.875, 0.75, 0.625, 0.5], strict=True):
        assert share * dense - 0.1 * dense < step.macs <= share * dense


def test_the_given_task_stays_as_it_was(make_task):
    task = make_task("residual")
    task.net.train()
    state = {name: value.clone() for name, value in task.net.state_dict().items()}
    groups = find_groups(task)
    count = len(groups.groups)
    result = Bench(0.9).run(task, num_steps=1, groups=groups)
    assert result.task is not task
    assert all(torch.equal(value, state[name]) for name, value in task.net.state_dict().items())
    assert all(module.training for module in task.net.modules())
    assert len(groups.groups) == count
    assert groups.groups[0].num_units == 16
    assert result.task.net.body.stem[0].out_channels < 16


def test_frozen_parameters_stay_frozen_and_trained_ones_trained(make_task):
    task = make_task("residual")
    task.net.body.stem.requires_grad_(False)
    flags = {name: p.requires_grad for name, p in task.net.named_parameters()}
    result = Bench(0.9).run(task, num_steps=2)
    pruned = {name: p.requires_grad for name, p in result.task.net.named_parameters()}
    assert pruned == flags
    assert result.layers["body.stem.0"].after < result.layers["body.stem.0"].before


def test_a_fully_frozen_net_is_bad_input(make_task):
    task = make_task("plain")
    task.net.requires_grad_(False)
    with pytest.raises(BadInput, match="all parameters are frozen"):
        Bench(0.9).run(task)


def test_the_criterion_given_ranks_the_channels(make_task):
    task = make_task("plain")

    class First(Criterion):
        def scores(self, task, groups, batches):
            return [torch.arange(group.num_units).float() for group in groups]

    result = Bench(0.9).run(task, num_steps=1, criterion=First())
    for channels in result.steps[0].removed.values():
        assert channels == list(range(len(channels)))
    assert result.steps[0].removed


def test_the_last_step_alone_gives_back_what_it_can(make_task, monkeypatch):
    given_back = []
    choose = Chooser.choose

    def recorded(self, ceilings, *, tightly=False):
        given_back.append(tightly)
        return choose(self, ceilings, tightly=tightly)

    monkeypatch.setattr(Chooser, "choose", recorded)
    Bench(0.9).run(make_task("residual"), num_steps=3)
    assert given_back == [False, False, True]


def test_the_budget_that_decides_is_the_one_given(make_task):
    for limit, is_met in ((0.2, True), (0.05, False)):
        result = Bench(0.9, 0.9, 0.9, 0.8).run(
            make_task("plain"), num_steps=1, budget=Budget(max_drop=limit)
        )
        assert result.verdict.is_met is is_met


def test_a_step_that_breaks_the_budget_is_rolled_back(make_task):
    task = make_task("residual")
    # Baseline, three steps of which the third loses too much, then twice on test images.
    bench = Bench(0.9, 0.9, 0.895, 0.88, 0.9, 0.895)
    seen = []
    result = bench.run(task, num_steps=5, on_step=seen.append)
    start = seen.pop(0)
    assert (start.index, start.score, start.removed) == (0, result.baseline, {})
    assert start.macs == result.cost_before.macs
    assert result.stopped == "budget"
    assert [step.is_kept for step in result.steps] == [True, True, False]
    assert seen == result.steps
    assert widths(result.task.net) == result.steps[1].widths != result.steps[2].widths
    assert result.cost_after.macs == result.steps[1].macs
    # The weights are those that the second step recovered, not fresh cuts.
    assert bench.recovered[1] == widths(result.task.net)
    assert result.verdict.is_met is True


def test_a_first_step_that_breaks_the_budget_leaves_the_net_whole(make_task):
    task = make_task("residual")
    result = Bench(0.9, 0.5, 0.9, 0.9).run(task)
    assert widths(result.task.net) == widths(task.net)
    for one, other in zip(result.task.net.parameters(), task.net.parameters(), strict=True):
        assert torch.equal(one, other)
    assert result.verdict.is_met is True


def test_a_score_that_is_no_number_is_rolled_back(make_task):
    result = Bench(0.9, math.nan, 0.9).run(make_task("plain"))
    assert result.stopped == "budget"


def test_training_that_ends_in_nan_is_rolled_back_whatever_it_scores(make_task):
    def diverge(task, index):
        with torch.no_grad():
            next(task.net.parameters()).fill_(math.nan)

    task = make_task("plain")
    result = Bench(0.9).run(task, recover=diverge, num_steps=1)
    assert result.stopped == "budget"
    assert [step.is_kept for step in result.steps] == [False]
    assert widths(result.task.net) == widths(task.net)
    result = Bench(0.9).run(task, num_steps=1, finish=diverge)
    assert [step.is_kept for step in result.steps] == [True, False]
    assert all(p.isfinite().all() for p in result.task.net.parameters())


def test_weights_that_are_not_finite_are_bad_input(make_task):
    for value in (math.nan, math.inf):
        task = make_task("plain")
        with torch.no_grad():
            task.net.fc.weight[0, 0] = value
        with pytest.raises(BadInput, match=r"fc\.weight holds NaN or infinity"):
            Bench(0.9).run(task)
        with pytest.raises(BadInput, match=r"fc\.weight holds NaN or infinity"):
            SingleWeights(task, Weights())


def test_a_pattern_that_breaks_the_budget_is_tried_once(make_task):
    task = make_task("plain")
    weights = SingleWeights(task, Weights(pattern="2:4"))
    result = Bench(0.9, 0.5, 0.9).run(task, removal=weights, num_steps=2, adapts=True)
    assert [step.is_kept for step in result.steps] == [False]
    assert result.stopped == "budget"


class Cut(torch.nn.Module):
    """No gradient goes back through it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = torch.nn.Conv2d(3, 16, 3), torch.nn.Linear(16, 3)

    def forward(self, x):
        return self.fc(self.stem(x).detach().mean((2, 3)))


def test_a_net_of_which_nothing_may_go_is_bad_input_with_reasons(make_task):
    with pytest.raises(BadInput, match=r"no channel of Cut may go: .*fc \(its channels are outp"):
        Bench(0.9).run(make_task(Cut()))
    with pytest.raises(BadInput, match=r"out of reach: .* Left whole: fc \(its channels are outp"):
        Bench(0.9).run(make_task("plain"), target=Target(macs=0.01))


def test_validation_keeps_what_lies_on_the_budget_and_test_images_decide(make_task):
    bench = Bench(0.9, 0.875, 0.9, 0.8)
    result = bench.run(make_task("plain"), num_steps=1, budget=Budget(max_drop=0.03))
    assert result.steps[0].is_kept
    assert (result.before.value, result.after.value) == (0.9, 0.8)
    assert result.verdict.is_met is False
    assert result.verdict.interval == pytest.approx((-0.101, -0.099))


def test_test_images_are_read_only_at_the_end(make_task):
    bench = Bench(0.9)
    bench.run(make_task("plain"), num_steps=3, criterion=Taylor(2))
    assert bench.log.count("test") == 2
    assert bench.log[-2:] == ["test", "test"]
    assert bench.log.count("recover") == 3
    # The baseline and every step.
    assert bench.log.count("val") == 4


def test_norms_are_measured_anew_before_recovery(make_task):
    bench = Bench(0.9)
    bench.run(make_task("plain"), num_steps=1)
    # Training images are read for the proof of the cut, the sensitivity of layers, and the norms.
    assert bench.log == ["val", *["train"] * 3, "recover", "val", "test", "test"]


def test_recovery_may_train_the_smaller_net(make_task):
    def train(task, index) -> None:
        task.net.train()
        optimizer = torch.optim.SGD(task.net.parameters(), lr=0.1)
        images, targets = next(iter(Counted([], "train")))
        functional.cross_entropy(task(images)["logits"], targets).backward()
        optimizer.step()

    result = Bench(0.9).run(make_task("residual"), num_steps=2, recover=train)
    assert result.stopped == "target"


def test_removed_channels_and_widths_are_told_by_layer(make_task):
    task = make_task("concat")
    result = Bench(0.9).run(task, num_steps=2, criterion=Random(3))
    width = widths(task.net)
    for step in result.steps:
        for layer in width:
            width[layer] -= len(step.removed.get(layer, []))
        assert width == step.widths
    assert {name: layer.after for name, layer in result.layers.items()} == width
    assert {name: layer.before for name, layer in result.layers.items()} == widths(task.net)


def test_local_scope_takes_from_every_layer(make_task):
    result = Bench(0.9).run(
        make_task("residual"),
        num_steps=1,
        selection=Selection(scope="local", round_to=1),
    )
    for layer in ("body.stem.0", "body.a.0", "body.b.0"):
        assert result.layers[layer].after < result.layers[layer].before


def test_params_may_be_the_target(make_task):
    task = make_task("flat")
    result = Bench(0.9).run(task, target=Target(macs=None, params=0.4), num_steps=2)
    assert result.cost_after.params <= 0.4 * result.cost_before.params


def test_a_group_that_fails_the_proof_is_left_whole_by_name(make_task):
    task = make_task("shuffle")
    units = tuple((unit,) for unit in range(16))
    stem = Group(
        "body.stem.0",
        (
            Member("body.stem.0", "out", units),
            Member("body.stem.1", "out", units),
            Member("body.last.0", "in", units),
        ),
    )
    groups = Groups([stem, *find_groups(task).groups])
    result = Bench(0.9).run(task, groups=groups, target=Target(macs=0.8), num_steps=1)
    assert result.layers["body.stem.0"].after == 16
    assert "not exact" in result.left_whole["body.stem.0"]
    assert result.layers["body.last.0"].after < 8


def test_layers_found_out_on_the_way_may_exhaust_the_target(make_task):
    task = make_task("shuffle")
    units = tuple((unit,) for unit in range(16))
    members = [Member("body.stem.0", "out", units), Member("body.stem.1", "out", units)]
    stem = Group("body.stem.0", (*members, Member("body.last.0", "in", units)))
    result = Bench(0.9).run(task, groups=Groups([stem]), num_steps=2)
    assert result.stopped == "exhausted"
    assert widths(result.task.net) == widths(task.net)


def test_a_cut_that_is_not_exact_is_undone(make_task, monkeypatch):
    task = make_task("plain")
    found = Findings(1e-3, "cutting it is not exact: the output moves by 1.0e-03")
    channels = Channels(task, selection=Selection(round_to=2))
    monkeypatch.setattr(exactness, "compare", lambda *_, **__: found)
    result = Bench(0.9).run(task, channels, num_steps=1)
    assert result.stopped == "exhausted"
    assert widths(result.task.net) == widths(task.net)
    assert "1.0e-03" in result.left_whole["body.0.0"]


def test_a_target_out_of_reach_is_bad_input(make_task):
    with pytest.raises(BadInput, match=r"target\.macs 0\.01 is out of reach: .* 0\.\d+ stays"):
        Bench(0.9).run(make_task("residual"), target=Target(macs=0.01))


def test_steps_shrink_when_the_budget_breaks_and_go_on_when_they_hold(make_task):
    task = make_task("residual")
    dense = costs_of(task)["macs"]
    # The first step of a half breaks the budget, and quarters hold.
    bench = Bench(0.9, 0.5, 0.895)
    result = bench.run(
        task, num_steps=2, adapts=True, budget=Budget(0.01), selection=Selection(round_to=1)
    )
    assert [step.is_kept for step in result.steps] == [False, True, True, True, True]
    ceilings = [0.75, 0.875, 0.75, 0.625, 0.5]
    shares = [step.macs / dense for step in result.steps]
    # A channel of the stem has 27 + 108 + 108 of the 3,888 weights that are used at every place.
    assert shares == pytest.approx(ceilings, abs=243 / 3888)
    assert all(share <= ceiling for share, ceiling in zip(shares, ceilings, strict=True))
    assert result.stopped == "target"


def test_it_gives_up_when_even_a_quarter_of_a_step_breaks_the_budget(make_task):
    result = Bench(0.9, 0.5).run(make_task("residual"), num_steps=1, adapts=True)
    assert result.stopped == "budget"
    assert [step.is_kept for step in result.steps] == [False, False, False]


def test_the_optimizers_memory_is_cut_and_undone_with_the_net(make_task):
    task = make_task("residual")
    bench = Bench(0.9, 0.9, 0.1, 0.9)
    shapes = []

    def remember(work, index) -> None:
        shapes.append({name: state["exp_avg"].shape for name, state in work.momenta.items()})
        named = dict(work.net.named_parameters())
        work.momenta = {name: {"exp_avg": p.detach().clone() * index} for name, p in named.items()}

    result = bench.run(task, num_steps=2, recover=remember)
    assert [step.is_kept for step in result.steps] == [True, False]
    assert shapes[0] == {}
    # In the second step they were those of the first, cut.
    for name, shape in shapes[1].items():
        assert shape == (
            result.steps[1].widths.get(name.removesuffix(".weight"), shape[0]),
            *shape[1:],
        )
    # The network that stays has those of the first step.
    for name, parameter in result.task.net.named_parameters():
        assert torch.equal(result.task.momenta[name]["exp_avg"], parameter)


def test_training_after_the_last_step_is_kept_unless_it_scores_worse(make_task):
    for score, is_kept in ((0.91, True), (0.89, False)):
        bench = Bench(0.9, 0.9, score, 0.9)
        trained = []

        def finish(work, index, trained=trained) -> None:
            trained.append((index, widths(work.net)))
            with torch.no_grad():
                work.net.fc.bias += 100

        result = bench.run(make_task("residual"), num_steps=1, finish=finish)
        assert trained == [(2, result.steps[0].widths)]
        assert [step.is_kept for step in result.steps] == [True, is_kept]
        assert bool((result.task.net.fc.bias > 50).all()) is is_kept
        assert [step.is_final for step in result.steps] == [False, True]
        assert result.steps[1].removed == {}


def test_the_reference_is_what_budget_and_target_compare_with(make_task):
    whole = make_task("residual")
    small = Bench(0.9).run(whole, num_steps=1, target=Target(macs=0.8)).task
    # On validation images: the reference, the given network, one step; then both on test images.
    bench = Bench(0.9, 0.895, 0.89, 0.9, 0.88)
    result = bench.run(small, num_steps=1, reference=whole, target=Target(macs=0.6))
    assert result.baseline == 0.9
    assert (result.before.value, result.after.value) == (0.9, 0.88)
    dense = costs_of(whole)["macs"]
    assert result.cost_before.macs == dense
    assert 0.4 * dense < result.cost_after.macs <= 0.6 * dense


def test_a_budget_that_is_broken_already_is_bad_input(make_task):
    task, other = make_task("residual"), make_task("residual")
    with pytest.raises(BadInput, match=r"broken before .* scores 0\.8500 .* reference 0\.9000"):
        Bench(0.9, 0.85).run(task, reference=other, budget=Budget(0.01))
    with pytest.raises(BadInput, match="scores NaN on validation images; are there any"):
        Bench(math.nan).run(task)


def test_a_budget_that_allows_everything_is_bad_input(make_task):
    with pytest.raises(BadInput, match=r"0\.1 allows the loss of the whole score, .* 0\.0800"):
        Bench(0.08).run(make_task("plain"), budget=Budget(0.1))
    assert Bench(0.08).run(make_task("plain"), budget=Budget(1.0)).stopped == "target"


def test_an_empty_set_of_training_images_is_bad_input(make_task):
    task = make_task("plain")
    with pytest.raises(BadInput, match="no training images"):
        prune(
            task,
            Channels(task),
            train_loader=[],
            val_loader=[],
            test_loader=iter([]),
            evaluate=lambda *_: Evaluation("accuracy", 0.9, {}, {}, Scored(0.9), 10),
        )
    with pytest.raises(BadInput, match="no test images, on which the budget is decided"):
        prune(task, Channels(task), train_loader=[], val_loader=[], test_loader=[])


def test_importance_kept_is_the_share_of_the_first_scores(make_task):
    task = make_task("plain")

    class Fixed(Criterion):
        is_normalised = True

        def scores(self, task, groups, batches):
            return [torch.arange(1.0, group.num_units + 1) for group in groups]

    result = Bench(0.9).run(
        task, num_steps=2, criterion=Fixed(), selection=Selection(scope="local", round_to=1)
    )
    # Scores count from 1 upwards and the lowest go, in the second step too.
    for name, before in (("body.0.0", 16), ("body.1.0", 12)):
        layer = result.layers[name]
        total = before * (before + 1) / 2
        # The criterion scores what is left from 1 again, so the lowest indices go first.
        gone = before - layer.after
        assert layer.importance == pytest.approx(1 - gone * (gone + 1) / 2 / total)
        assert layer.sensitivity is not None
    assert result.layers["fc"].importance is None


class Slow:
    """A clock on which a layer takes as long as it has channels."""

    def __init__(self, task) -> None:
        self.dense = sum(widths(task.net).values())
        self.calls = 0

    def share(self, task) -> float:
        self.calls += 1
        return sum(widths(task.net).values()) / self.dense


def test_measured_latency_is_met_and_not_overshot_by_a_tenth(make_task):
    task = make_task("residual")
    clock = Slow(task)
    result = Bench(0.9).run(
        task,
        num_steps=2,
        target=Target(macs=None, latency=0.6),
        latency=clock,
        selection=Selection(round_to=1),
    )
    assert result.stopped == "target"
    assert 0.9 * 0.6 <= clock.share(result.task) <= 0.6
    assert result.steps[-1].latency == clock.share(result.task)


def test_several_targets_are_all_met(make_task):
    task = make_task("residual")
    clock = Slow(task)
    target = Target(macs=0.7, params=0.5, latency=0.9)
    result = Bench(0.9).run(task, num_steps=1, target=target, latency=clock)
    assert result.cost_after.macs <= 0.7 * result.cost_before.macs
    assert result.cost_after.params <= 0.5 * result.cost_before.params
    assert clock.share(result.task) <= 0.9


def test_latency_without_a_clock_or_out_of_reach_is_bad_input(make_task):
    task = make_task("residual")
    target = Target(macs=None, latency=0.1)
    with pytest.raises(BadInput, match=r"target\.latency needs a clock"):
        Bench(0.9).run(task, target=target)
    with pytest.raises(BadInput, match=r"target\.latency 0\.1 is out of reach"):
        Bench(0.9).run(task, target=target, latency=Slow(task))


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_run_killed_after_any_step_goes_on_to_the_same_end(make_task, at):
    def run(task, scores, **options):
        # Taylor reads training images, whose order a step decides.
        return Bench(*scores).run(
            task, num_steps=3, adapts=True, criterion=Taylor(1), selection=Selection(round_to=1),
            **options,
        )  # fmt: skip

    # The baseline, three steps of which the second breaks the budget, and the training at the end.
    scores = [0.9, 0.9, 0.5, 0.9, 0.9, 0.9]
    whole = run(make_task("concat"), scores)
    assert [step.is_kept for step in whole.steps] == [True, False, True, True]
    kept = []

    def save(state) -> None:
        kept.append(copy.deepcopy(state))
        if len(kept) == at + 1:
            raise Killed

    with pytest.raises(Killed):
        run(make_task("concat"), scores, save=save)
    begun = kept[-1]
    rest = scores[1 + len(begun.steps) :]
    again = run(make_task("concat"), rest, begun=begun)
    assert [(s.removed, s.score, s.macs) for s in again.steps] == [
        (s.removed, s.score, s.macs) for s in whole.steps
    ]
    assert again.layers == whole.layers
    for one, other in zip(
        again.task.net.state_dict().values(), whole.task.net.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)
