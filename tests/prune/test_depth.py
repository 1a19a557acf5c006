"""Runs that may remove whole residual branches: chosen, cut, saved, exported and taken further."""

import onnx
import onnxruntime
import pytest
import torch
from residual_nets import residual_task

from regrow.errors import BadInput
from regrow.incremental.expand import expand_
from regrow.incremental.warm_init import shrink_perturb_
from regrow.metrics.budget import Budget
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.onnx.graph import build_graph
from regrow.models.record.branches import ShortcutBlock, record
from regrow.prune.channels.exactness import cut_exactly_
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import Groups, widths_of
from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.compensation.compensate import Compensation, compensate_
from regrow.prune.cost_model import costs_of
from regrow.prune.criteria import Taylor
from regrow.prune.engine import prune
from regrow.prune.recovery import reestimate_batchnorm_
from regrow.prune.removal import Channels
from regrow.prune.search.settings import Search
from regrow.prune.selection import Chooser, Selection
from regrow.prune.state import load_progress, save_progress
from regrow.prune.target import Target
from regrow.prune.widening.widen import widen_

DEAD = "two.1"
SEARCH = Search(candidates=6, num_images=8, num_batches=1)


def batches(count: int = 4, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1, 2, 0])
    shape = (4, 3, 16, 16)
    return [
        (torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), labels)
        for _ in range(count)
    ]


def trained() -> Classification:
    """A network in which one branch contributes nothing."""
    torch.manual_seed(0)
    task = Classification(["a", "b", "c"], (16, 16), net_args={"width": 16})
    for name in ("one", "three.1"):
        torch.nn.init.constant_(task.net.get_submodule(name).norm.weight, 2.0)
    torch.nn.init.zeros_(task.net.get_submodule(DEAD).norm.weight)
    task.net.head.weight.data.mul_(10)
    reestimate_batchnorm_(task, batches())
    return task.eval()


def without_dead(task: Classification) -> Classification:
    small = clone(task)
    (group,) = [
        g for g in find_groups(task, branches=True).groups if g.branch and g.branch.block == DEAD
    ]
    cut_(small, [(group, list(range(group.num_units)))])
    return small


def run(task, branches=True, search=SEARCH, num_steps=1, share=None, compensation=None, **options):
    least = costs_of(without_dead(task))["macs"] / costs_of(task)["macs"]
    channels = Channels(
        task,
        Target(macs=share or least),
        Selection(round_to=1, branches=branches),
        Taylor(1),
        search=search,
        compensation=compensation,
    )
    return prune(
        task,
        channels,
        train_loader=batches(),
        val_loader=batches(2, 2),
        test_loader=batches(2, 3),
        num_steps=num_steps,
        adapts=False,
        budget=Budget(max_drop=1.0),
        **options,
    )


@pytest.mark.parametrize("search", [SEARCH, None])
def test_a_branch_that_contributes_nothing_is_what_goes(search):
    """The target is what the network costs without it, so that nothing else has to go."""
    task = trained()
    result = run(task, search=search)
    assert list(record(result.task.net)) == [DEAD]
    (step,) = result.steps
    assert step.error <= 1e-9
    assert set(step.removed) == {f"{DEAD}.first.0", f"{DEAD}.first.1"}
    assert result.cost_after.macs == costs_of(without_dead(task))["macs"]
    assert result.layers[f"{DEAD}.first.0"].after == 0
    assert result.layers[f"{DEAD}.second"].after == 0
    assert result.layers["one.second"].after == 16
    images = batches(1, 5)[0][0]
    with torch.no_grad():
        # Norms that stay are measured anew, and they alone make a difference.
        torch.testing.assert_close(
            without_dead(task)(images)["logits"], task(images)["logits"], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("search", [SEARCH, None])
def test_no_branch_goes_unless_it_is_asked_for(search):
    result = run(trained(), branches=False, search=search)
    assert record(result.task.net) == {}
    assert all(width > 0 for width in result.steps[0].widths.values())


@pytest.mark.parametrize(("options", "may"), [({}, True), ({"limit": {DEAD: 0.9}}, False)])
def test_the_number_of_units_that_is_legal_ends_with_all_of_them(options, may):
    task = trained()
    groups = find_groups(task, branches=True).groups
    scores = [torch.arange(group.num_units, dtype=torch.float) for group in groups]
    dense = {group.layer: group.width for group in groups}
    chooser = Chooser(task, groups, scores, dense, Selection(branches=True, **options))
    place = [group.layer for group in groups].index(f"{DEAD}.first.0")
    assert chooser.may_vanish[place] is may
    least = 32 - round((0.9 if options else 0.8) * 32 - 0.5)
    counts = [chooser.legal(place, asked) for asked in range(33)]
    assert counts[31] < 32
    assert counts[32] == (32 if may else counts[31])
    assert 32 - counts[31] >= least
    # The stem is in no branch.
    assert not any(m for g, m in zip(groups, chooser.may_vanish, strict=True) if g.branch is None)


def test_a_file_gives_the_smaller_network_back_bit_for_bit(tmp_path):
    result = run(trained(), share=0.6)
    save(tmp_path / "pruned.ckpt", result.task)
    again = load(tmp_path / "pruned.ckpt")
    assert record(again.net) == record(result.task.net) != {}
    images = batches(1, 5)[0][0]
    with torch.no_grad():
        assert torch.equal(again(images)["logits"], result.task.eval()(images)["logits"])
    # A run goes on from it; a dense network of its arguments is what it is compared with.
    more = run(again, share=0.8) if DEAD not in record(again.net) else None
    assert more is None or more.stopped == "target"


def test_a_record_that_names_other_blocks_is_refused(tmp_path):
    path, small = tmp_path / "pruned.ckpt", without_dead(trained())
    save(path, small)
    payload = torch.load(path, weights_only=True)
    blocks = payload["regrow"]["structure"]["branches"]
    blocks["two.7"] = blocks.pop(DEAD)
    torch.save(payload, path)
    with pytest.raises(BadInput, match=r"names the block 'two\.7', which the network lacks"):
        load(path)


def test_an_export_of_the_smaller_network_is_smaller_and_gives_the_same():
    task, small = trained(), without_dead(trained())
    images = batches(1, 5)[0][0]
    graphs = [build_graph(one.eval()) for one in (task, small)]
    sizes = [len(graph.SerializeToString()) for graph in graphs]
    convolutions = [sum(n.op_type == "Conv" for n in graph.graph.node) for graph in graphs]
    assert sizes[1] < sizes[0] - 2 * 9 * 32 * 32 * 4
    assert convolutions[1] == convolutions[0] - 2
    session = onnxruntime.InferenceSession(graphs[1].SerializeToString())
    (given,) = session.get_inputs()
    (found,) = session.run(None, {given.name: images.numpy()})
    with torch.no_grad():
        expected = small(images)["logits"].softmax(-1)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)
    onnx.checker.check_model(graphs[1])


class Killed(Exception):
    """Ends a run as a signal does."""


def test_a_run_that_is_killed_after_a_branch_is_gone_resumes_to_the_same_network(tmp_path):
    task, path = trained(), tmp_path / "progress.ckpt"
    whole = run(task, share=0.5, num_steps=2)
    assert record(whole.task.net) != {}

    def stop(state) -> None:
        save_progress(path, state, {})
        if len(state.steps) == 1 and state.cuts:
            raise Killed

    with pytest.raises(Killed):
        run(task, share=0.5, num_steps=2, save=stop)
    progress, _ = load_progress(path)
    again = run(task, share=0.5, num_steps=2, begun=progress)
    assert again.steps == whole.steps
    for name, value in whole.task.net.state_dict().items():
        assert torch.equal(value, again.task.net.state_dict()[name])


def test_compensation_passes_over_what_goes():
    result = run(trained(), share=0.6, compensation=Compensation(num_images=16))
    assert record(result.task.net) != {}
    assert all(step.error <= 1e-9 for step in result.steps)


def test_channels_come_back_and_branches_stay_removed():
    result = run(trained(), share=0.5)
    task, images = result.task.eval(), batches(1, 5)[0][0]
    blocks = record(task.net)
    assert blocks
    with torch.no_grad():
        before = task(images)["logits"]
        cost = costs_of(task)["params"]
        assert widen_(task).gained
        assert costs_of(task)["params"] > cost
        torch.testing.assert_close(task(images)["logits"], before, rtol=1e-4, atol=1e-5)
    # The constants of the stream that grew have grown with it.
    assert record(task.net) == {name: {**entry, "channels": 32} for name, entry in blocks.items()}


def test_a_network_without_a_branch_grows_and_warms_up():
    small = without_dead(trained())
    expand_(small, ["a", "b", "c", "d"])
    constant = small.net.get_submodule(DEAD).constant
    constant.data.fill_(2.0)
    shrink_perturb_(small, 0.5, 0.1)
    # What is fresh of a constant is nothing.
    assert torch.equal(constant.data, torch.ones(32))
    assert small(batches()[0][0])["logits"].shape == (4, 4)


def test_an_optimizer_goes_on_with_the_constant_and_forgets_the_branch():
    task = trained()
    group = next(g for g in find_groups(task, branches=True).groups if g.branch)
    block = group.branch.block
    optimizer = task.optimization.build(task.net)
    for _ in range(2):
        task.net.train()
        loss = task.losses(task(batches()[0][0]), batches()[0][1])["ce"]
        loss.backward()
        optimizer.step()
    gone = dict(task.net.get_submodule(block).named_parameters()).values()
    cut_(task, [(group, list(range(group.num_units)))], optimizer)
    small = task.net.get_submodule(block)
    assert isinstance(small, ShortcutBlock)
    held = [p for g in optimizer.param_groups for p in g["params"]]
    assert {id(p) for p in held} == {id(p) for p in task.net.parameters()}
    assert len(held) == len(list(task.net.parameters()))
    assert not {id(p) for p in gone} & {id(p) for p in optimizer.state}
    before = small.constant.detach().clone()
    optimizer.zero_grad()
    task.losses(task(batches()[0][0]), batches()[0][1])["ce"].backward()
    optimizer.step()
    assert not torch.equal(small.constant.detach(), before)
    home = next(g for g in optimizer.param_groups if any(p is small.constant for p in g["params"]))
    assert home["weight_decay"] == 0.0


def test_widths_of_before_are_known_where_the_layer_that_named_a_group_is_gone():
    """As the next target of a front needs them, which starts from the pruned checkpoint."""
    task = residual_task("basic")
    groups = find_groups(task, branches=True).groups
    before = widths_of(groups)
    # The stream of the second stage is named by the branch of its first block.
    plan = [
        (g, list(range(g.num_units if g.branch and g.branch.block == "layer2.0" else 16)))
        for g in groups
        if g.layer in ("layer2.0.conv1", "layer2.0.conv2")
    ]
    assert len(plan) == 2
    cut_(task, plan)
    again = find_groups(task).groups
    (stream,) = [group for group in again if group.layer == "layer2.0.downsample.0"]
    assert stream.width == 128 - 16
    channels = Channels(task, Target(macs=0.9), groups=Groups(again), dense=before)
    assert channels.dense[stream.layer] == 128
    assert {group.layer for group in again} <= before.keys()


@pytest.mark.parametrize("compensation", [None, Compensation(num_images=16)])
def test_a_trial_begins_with_the_network_that_a_step_would_train(compensation):
    task, images = trained(), batches()
    groups = find_groups(task, branches=True)
    channels = Channels(task, Target(macs=0.9), groups=groups, compensation=compensation)
    plan = [
        (g, list(range(g.num_units if g.branch.block == "one" else 4)))
        for g in groups.groups
        if g.branch is not None
    ]
    step = clone(task)
    if compensation is not None:
        compensate_(step, plan, images, compensation)
    cut_exactly_(step, plan, None)
    channels.settle_norms_(step, images)
    trial = channels.as_cut(task, plan, images).net.state_dict()
    assert "one.constant" in trial
    for name, tensor in step.net.state_dict().items():
        torch.testing.assert_close(trial[name], tensor, msg=name)
