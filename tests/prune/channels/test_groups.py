import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torchvision.models import get_model
from torchvision.ops import FrozenBatchNorm2d

from regrow.errors import BadInput
from regrow.prune.channels import coupling, groups, tracing
from regrow.prune.channels.groups import find_groups, without_layers


def layers(task) -> dict[str, int]:
    return {group.layer: group.num_units for group in find_groups(task).groups}


def members(task, layer: str) -> set[tuple[str, str]]:
    group = next(group for group in find_groups(task).groups if group.layer == layer)
    return {(member.layer, member.side) for member in group.members}


def test_a_plain_net_has_one_group_a_layer_and_keeps_its_outputs(make_task):
    task = make_task("plain")
    assert layers(task) == {"body.0.0": 16, "body.1.0": 12}
    assert members(task, "body.0.0") == {
        ("body.0.0", "out"), ("body.0.1", "out"), ("body.1.0", "in"),
    }  # fmt: skip
    assert "outputs of fc" in find_groups(task).left_whole["fc"]


def test_a_residual_sum_couples_both_branches(make_task):
    task = make_task("residual")
    assert layers(task) == {"body.stem.0": 16, "body.a.0": 12}
    assert {("body.stem.0", "out"), ("body.b.0", "out"), ("body.a.0", "in"), ("fc", "in")} <= (
        members(task, "body.stem.0")
    )


@pytest.mark.parametrize(
    ("net", "layer", "reason"),
    [
        ("shuffle", "body.stem.0", "not exact"),
        ("channel_mean", "body.stem.0", "not exact"),
        ("channel_shuffle", "body.stem.0", "ChannelShuffle"),
        ("padded", "body.stem.0", "option A"),
        ("padded", "body.b.0", "option A"),
    ],
)
def test_what_cannot_be_pruned_is_left_whole_by_name(make_task, net, layer, reason):
    found = find_groups(make_task(net))
    assert reason in found.left_whole[layer]
    assert layer not in {group.layer for group in found.groups}
    assert found.groups


class Places(nn.Module):
    """Channels that are scaled by what some of them, known by their places, amount to."""

    def __init__(self, places: slice) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 8, 1)
        self.places = places

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.last(x * x[:, self.places].mean(1, keepdim=True).sigmoid())


class Halves(nn.Module):
    """The second half of the channels is read once more, wherever it begins."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, channels, 3), nn.Conv2d(channels, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        half = x.shape[1] // 2
        return self.last(torch.cat([x[:, :half], x[:, half:].sigmoid()], 1))


@pytest.mark.parametrize(
    "net",
    [
        Places(slice(0, 1)),
        Places(slice(31, 32)),
        Places(slice(-1, None)),
        Places(slice(15, 17)),
        *(Halves(channels) for channels in (4, 6, 8, 16, 32)),
    ],
)
def test_channels_that_are_taken_by_their_places_are_left_whole(make_task, net):
    found = find_groups(make_task(net))
    assert "stem" in found.left_whole


class Stream(nn.Module):
    """A residual stream with a layer norm, as in transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 12, 4, 4), nn.Linear(12, 3)
        self.norm, self.up, self.down = nn.LayerNorm(12), nn.Linear(12, 32), nn.Linear(32, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.fc((x + self.down(self.up(self.norm(x)).relu())).mean(1))


def test_a_width_that_a_norm_spans_is_found_and_told_apart(make_task):
    found = find_groups(make_task(Stream()))
    assert {group.layer: group.is_normed for group in found.groups} == {"stem": True, "up": False}
    assert set(found.left_whole) == {"fc"}
    stream = found.groups[0]
    assert {(m.layer, m.side) for m in stream.members} == {
        ("stem", "out"), ("down", "out"), ("norm", "out"), ("up", "in"), ("fc", "in"),
    }  # fmt: skip
    assert stream.after({}, [3]).is_normed


def test_a_group_norm_loses_its_groups_whole(make_task):
    found = find_groups(make_task("group_norm"))
    group = found.groups[0]
    # 16 channels in 4 groups of the norm, whose statistics stay when others go.
    assert (group.layer, group.num_units, group.is_normed) == ("body.0", 4, False)
    units = tuple(tuple(range(4 * unit, 4 * unit + 4)) for unit in range(4))
    assert {member.layer: member.units for member in group.members if member.is_count} == {
        "body.1.num_groups": ((0,), (1,), (2,), (3,))
    }
    assert {m.units for m in group.members if not m.is_count} == {units}


@pytest.mark.parametrize(
    ("norm", "reason"),
    [(nn.LayerNorm([16, 14, 14]), "LayerNorm"), (nn.LocalResponseNorm(3), "padded")],
)
def test_other_norms_are_left_whole(make_task, norm, reason):
    net = nn.Sequential(nn.Conv2d(3, 16, 3), norm, nn.Conv2d(16, 8, 3), nn.Conv2d(8, 3, 3))
    found = find_groups(make_task(net))
    assert reason in found.left_whole["0"]
    assert [group.layer for group in found.groups] == ["2"]


def test_an_error_behind_weights_that_begin_at_zero_is_seen(make_task):
    class Scaled(nn.Module):
        """A branch that cannot be cut, behind a layer scale that has not been trained."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 3)
            self.branch, self.back = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1)
            self.scale = nn.Parameter(torch.zeros(8, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            y = self.branch(x)
            return self.fc((x + self.scale * self.back(y - y.mean(1, keepdim=True))).mean((2, 3)))

    found = find_groups(make_task(Scaled()))
    assert "not exact" in found.left_whole["branch"]
    assert [group.layer for group in found.groups] == ["stem"]


def test_work_is_counted_alike_at_every_time(make_task, monkeypatch):
    left = []

    class Watched(tracing.Effort):
        def spend(self, work: int = tracing.LAYER) -> None:
            super().spend(work)
            left.append(self.left)

    monkeypatch.setattr(groups, "Effort", Watched)
    find_groups(make_task("residual"))
    once = left[-1]
    find_groups(make_task("residual"))
    assert left[-1] == once < groups.MAX_WORK


def test_a_search_that_takes_too_much_work_is_stopped(make_task, monkeypatch):
    monkeypatch.setattr(coupling, "_group", lambda *_: pytest.fail("a group was made"))
    task = make_task("residual")
    # The layers are run once; nothing is left to follow their channels.
    runs = sum(1 for _ in task.net.modules())
    with pytest.raises(BadInput, match="takes more work"):
        find_groups(task, max_work=runs * tracing.LAYER)


def test_a_parameter_that_is_not_called_counts_as_a_reader(make_task):
    found = find_groups(make_task("vit"))
    stream = next(group for group in found.groups if group.is_normed)
    bare = {m.layer: (m.side, m.dim) for m in stream.members if m.dim is not None}
    assert bare == {
        "class_token": ("in", 2),
        "encoder.pos_embedding": ("in", 2),
        "encoder.layers.encoder_layer_0.self_attention.in_proj_weight": ("in", 1),
        "encoder.layers.encoder_layer_1.self_attention.in_proj_weight": ("in", 1),
    }


def test_an_output_that_is_also_read_keeps_its_width(make_task):
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            x = self.a(x)
            return {"deep": self.b(x), "features": x}

    found = find_groups(make_task(Both()))
    assert not found.groups
    assert set(found.left_whole) == {"a", "b"}


@pytest.mark.parametrize("is_training", [True, False])
def test_finding_groups_leaves_the_net_as_it_was(make_task, is_training):
    task = make_task("residual")
    task.net.train(is_training)
    task.net.body.b.eval()
    task.net.body.stem.requires_grad_(False)
    modes = [module.training for module in task.net.modules()]
    flags = [parameter.requires_grad for parameter in task.net.parameters()]
    state = {name: value.clone() for name, value in task.net.state_dict().items()}
    with torch.no_grad():
        found = find_groups(task)
    # The frozen stem is seen all the same.
    assert [group.layer for group in found.groups] == ["body.stem.0", "body.a.0"]
    assert [module.training for module in task.net.modules()] == modes
    assert [parameter.requires_grad for parameter in task.net.parameters()] == flags
    for name, value in task.net.state_dict().items():
        assert torch.equal(value, state[name])
    assert not any(module._forward_hooks for module in task.net.modules())


def test_a_frozen_batch_norm_is_cut_with_its_layer(make_task):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), FrozenBatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3))
    assert ("1", "out") in members(make_task(net), "0")


class Remembering(nn.Module):
    """Keeps the maps of its last pass, with their graph."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.maps = self.stem(x)
        return self.fc(self.maps.mean((2, 3)))


def test_a_net_that_cannot_be_copied_is_bad_input(make_task):
    net = Remembering()
    net(torch.zeros(1, 3, 8, 8))
    with pytest.raises(BadInput, match="Remembering: cannot be copied, since maps is computed"):
        find_groups(make_task(net))
    weighted = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3))
    prune.l1_unstructured(weighted[1], "weight", 0.5)
    with pytest.raises(BadInput, match=r"Sequential: cannot be copied, since 1\.weight is comp"):
        find_groups(make_task(weighted))


class Uncopied(nn.Conv2d):
    """Refuses copies as CUDA does where memory ends."""

    def __deepcopy__(self, memo: dict) -> "Uncopied":
        raise RuntimeError("out of memory")


def test_a_copy_that_fails_says_why(make_task):
    with pytest.raises(BadInput, match="Sequential: cannot be copied: out of memory"):
        find_groups(make_task(nn.Sequential(Uncopied(3, 8, 3), nn.Conv2d(8, 3, 3))))


class Auxiliary(nn.Module):
    """A head that runs in training alone, as in fully convolutional networks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
        self.fc, self.aux = nn.Linear(16, 3), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.stem(x)
        outputs = {"logits": self.fc(self.body(x).mean((2, 3)))}
        if self.training:
            outputs["aux"] = self.aux(x.mean((2, 3)))
        return outputs


def test_what_a_layer_reads_that_runs_in_training_alone_is_left_whole(make_task):
    found = find_groups(make_task(Auxiliary()))
    assert [group.layer for group in found.groups] == ["body"]
    assert "cutting it fails" in found.left_whole["stem"]


class Recurrent(nn.Module):
    """Rows of maps, one after another through a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.cell, self.fc = nn.Conv2d(3, 8, 3), nn.GRUCell(8, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = torch.zeros(len(x), 8, dtype=x.dtype)
        for row in self.stem(x).mean(-1).unbind(-1):
            state = self.cell(row, state)
        return self.fc(state)


def test_what_a_recurrent_cell_reads_is_left_whole(make_task):
    assert "stem" in find_groups(make_task(Recurrent())).left_whole


def test_torchvision_nets_leave_nothing_but_the_classifier_whole(make_task):
    found = find_groups(make_task(get_model("resnet18", weights=None), 32))
    assert len(found.groups) == 12
    assert set(found.left_whole) == {"fc"}
    found = find_groups(make_task(get_model("mobilenet_v3_small", weights=None), 32))
    assert len(found.groups) == 27
    assert set(found.left_whole) == {"classifier.3"}


def test_swin_ends_and_its_streams_are_groups(make_task):
    torch.manual_seed(0)
    net = get_model("swin_t", weights=None)
    net.features = net.features[:4]
    net.norm, net.head = nn.LayerNorm(192), nn.Linear(192, 3)
    found = find_groups(make_task(net, 32))
    assert {group.layer: group.is_normed for group in found.groups} == {
        "features.0.0": True,
        "features.2.reduction": True,
        **{
            f"features.{stage}.{block}.{part}": False
            for stage in (1, 3)
            for block in (0, 1)
            for part in ("attn", "mlp.0")
        },
    }
    assert list(found.left_whole) == ["head"]


def test_refused_layers_join_those_left_whole(make_task):
    found = find_groups(make_task("plain"))
    rest = without_layers(found, {"body.0.0": "because"})
    assert [group.layer for group in rest.groups] == ["body.1.0"]
    assert rest.left_whole["body.0.0"] == "because"
    assert len(found.groups) == 2
