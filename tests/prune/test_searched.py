"""The engine with widths that are searched for."""

import json

import pytest
import torch

from regrow.errors import BadInput
from regrow.metrics.budget import Budget
from regrow.models.classification import Classification
from regrow.prune import engine
from regrow.prune.channels.records import widths
from regrow.prune.compensation.compensate import Compensation
from regrow.prune.engine import prune
from regrow.prune.removal import Channels
from regrow.prune.search.settings import Search
from regrow.prune.selection import Selection
from regrow.prune.state import load_progress, save_progress
from regrow.prune.target import Target


def batches(count: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    shape = (4, 3, 16, 16)
    return [
        (
            torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
            torch.tensor([0, 1, 2, 0]),
        )
        for _ in range(count)
    ]


def trained() -> Classification:
    torch.manual_seed(0)
    return Classification(["a", "b", "c"], (16, 16), net_args={"width": 16})


SEARCH = Search(candidates=7, num_images=8, num_batches=1)


def run(task, search: Search | None = SEARCH, num_steps: int = 2, compensation=None, **options):
    channels = Channels(
        task,
        Target(macs=0.5),
        Selection(round_to=2),
        compensation=compensation,
        search=search,
    )
    return prune(
        task,
        channels,
        train_loader=batches(4, 1),
        val_loader=batches(2, 2),
        test_loader=batches(2, 3),
        num_steps=num_steps,
        adapts=False,
        budget=Budget(max_drop=1.0),
        **options,
    )


def test_each_step_is_cut_to_the_best_widths_under_its_ceiling():
    task = trained()
    kept = []
    result = run(task, save=lambda state: kept.append((len(state.steps), state.search)))
    assert result.stopped == "target"
    assert result.cost_after.macs <= 0.5 * result.cost_before.macs
    assert [
        step.macs <= share * result.cost_before.macs
        for step, share in zip(result.steps, (0.75, 0.5), strict=True)
    ] == [True, True]
    assert all(step.error <= 1e-9 for step in result.steps)
    # Both steps searched by a seed of their own, and what they found is forgotten afterwards.
    found = {json.dumps(search["key"]["seed"]) for _, search in kept if search is not None}
    assert len(found) == 2
    assert kept[-1][1] is None
    assert widths(result.task.net) != widths(run(task, None).task.net)


@pytest.mark.parametrize(
    ("options", "dense", "most"),
    [
        ({"keep": ["three.0.0"]}, None, 0),
        ({"limit": {"three.0.0": 0.25}}, None, 16),
        # Half of the 128 channels that it once had went before.
        ({"limit": {"three.0.0": 0.5}}, {"three.0.0": 128}, 0),
    ],
)
def test_layers_that_users_name_lose_no_more_than_they_may(options, dense, most):
    """Free to choose, the search takes more of the 64 channels of this group."""

    def lost(selection: Selection, dense: dict[str, int] | None = None) -> dict[str, list[int]]:
        task = trained()
        channels = Channels(task, Target(macs=0.75), selection, dense=dense, search=SEARCH)
        cut = channels.cut_(task, batches(4, 1), {"macs": 0.75}, tightly=True)
        assert cut is not None
        return cut.units

    assert len(lost(Selection(round_to=1))["three.0.0"]) > 16
    named = lost(Selection(round_to=1, **options), dense)
    assert len(named.pop("three.0.0", [])) <= most
    assert named


class Killed(Exception):
    """Ends a run as a signal does."""


@pytest.mark.parametrize("stop", [2, 9])
def test_a_run_that_is_killed_in_a_search_resumes_to_the_same_network(tmp_path, stop):
    task, path = trained(), tmp_path / "progress.ckpt"
    whole = run(task)
    count = 0

    def save(state) -> None:
        nonlocal count
        if state.search is not None:
            count += 1
        save_progress(path, state, {})
        if count == stop:
            raise Killed

    with pytest.raises(Killed):
        run(task, save=save)
    progress, _ = load_progress(path)
    assert progress.search["points"]
    again = run(task, begun=progress)
    assert again.steps == whole.steps
    for name, value in whole.task.net.state_dict().items():
        assert torch.equal(value, again.task.net.state_dict()[name])


TRIED = Search(candidates=5, num_images=8, num_batches=1, trials=3, trial_steps=2)


@pytest.mark.parametrize(("stop", "compensation"), [(1, None), (2, Compensation(num_images=8))])
def test_a_run_that_is_killed_in_a_trial_resumes_to_the_same_network(
    tmp_path, monkeypatch, stop, compensation
):
    # Each trial is kept at once, however quick it was.
    monkeypatch.setattr(engine, "_Sparing", lambda keep: keep)
    task, path = trained(), tmp_path / "progress.ckpt"
    options = {"search": TRIED, "num_steps": 1, "compensation": compensation}
    whole = run(task, **options)

    def save(state) -> None:
        save_progress(path, state, {})
        found = state.search["candidates"] if state.search else []
        if sum(candidate[-1] is not None for candidate in found) == stop:
            raise Killed

    with pytest.raises(Killed):
        run(task, save=save, **options)
    progress, _ = load_progress(path)
    tried = [c for c in progress.search["candidates"] if c[-1] is not None]
    assert len(tried) == stop
    again = run(task, begun=progress, **options)
    assert again.steps == whole.steps
    for name, value in whole.task.net.state_dict().items():
        assert torch.equal(value, again.task.net.state_dict()[name])


def test_a_search_that_is_no_record_is_refused(tmp_path):
    task, path = trained(), tmp_path / "progress.ckpt"
    kept = []
    run(task, None, 1, save=kept.append)
    kept[-1].search = "none"
    save_progress(path, kept[-1], {})
    with pytest.raises(BadInput, match="a search that is none"):
        load_progress(path)


def test_a_time_shorter_than_one_candidate_ends_the_run_with_one_line():
    with pytest.raises(BadInput, match="search.minutes 1e-06 is shorter than one candidate"):
        run(trained(), Search(minutes=1e-6, num_images=8, num_batches=1))


def test_after_a_compensation_the_norms_that_are_nearer_stay():
    task = trained()
    channels = Channels(
        task, Target(macs=0.5), Selection(round_to=2), compensation=Compensation(num_images=16)
    )
    work = run(task, None, 1, compensation=Compensation(num_images=16)).task
    norm = next(m for m in work.net.modules() if isinstance(m, torch.nn.BatchNorm2d))
    before = norm.running_mean.clone()
    channels.reference = work
    # Nothing is nearer to a network than itself.
    channels.settle_norms_(work, batches(4, 9))
    assert torch.equal(norm.running_mean, before)
    with torch.no_grad():
        norm.running_var *= 1e-6
    channels.reference = task
    channels.settle_norms_(work, batches(4, 9))
    norm = next(m for m in work.net.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert not torch.equal(norm.running_mean, before)


class ByWidth:
    """Tells times that follow the square root of the widths, unlike the layers' shares."""

    def __init__(self, task) -> None:
        self.whole = sum(widths(task.net).values())

    def share(self, task) -> float:
        return (sum(widths(task.net).values()) / self.whole) ** 0.5


def test_a_measured_time_is_met_by_candidates_that_were_timed():
    task = trained()
    channels = Channels(
        task,
        Target(latency=0.75),
        Selection(round_to=2),
        latency=ByWidth(task),
        search=Search(candidates=10, num_images=8, num_batches=1),
    )
    cut = channels.cut_(task, batches(4, 1), {"latency": 0.75}, tightly=True)
    assert cut.latency <= 0.75
    assert cut.latency == channels.latency.share(task)
    # It is not far below either: some candidate comes near.
    assert cut.latency > 0.5
