import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import RoIAlign

from regrow.errors import BadInput
from regrow.models.masks import mask_weights_
from regrow.prune.channels.exactness import check_exact, cut_exactly_
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import Group, Member
from regrow.prune.channels.surgery import clone, cut_, mask_
from regrow.prune.compensation.compensate import Compensation, calibration_images, compensate_
from regrow.prune.criteria import Magnitude, score_groups
from regrow.prune.removal import Channels
from regrow.prune.selection import Selection, lowest
from regrow.prune.target import Target


def batches(count: int = 3, size: int = 16, images: int = 8):
    generator = torch.Generator().manual_seed(5)
    shape = (images, 3, size, size)
    made = [
        torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8) for _ in range(count)
    ]
    return [(batch, torch.zeros(images, dtype=torch.long)) for batch in made]


def planned(task, share: float = 0.4, **options):
    groups = find_groups(task, **options).groups
    return lowest(groups, score_groups(task, groups, Magnitude()), share)


def masked_copy(task, plan):
    masked = clone(task)
    mask_(masked, plan)
    masked.net.eval()
    return masked


def captured(task, name: str, images) -> tuple[torch.Tensor, torch.Tensor]:
    seen = []
    handle = task.net.get_submodule(name).register_forward_hook(
        lambda _, inputs, out: seen.append((inputs[0].detach(), out.detach()))
    )
    task.net.eval()
    task(images)
    handle.remove()
    return seen[0]


def patches(x: np.ndarray) -> np.ndarray:
    """Return the 3x3 neighbourhood of each place, one after another: images, rows, columns."""
    images, channels, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows = [
        padded[image, :, top : top + 3, left : left + 3].reshape(-1)
        for image in range(images)
        for top in range(height)
        for left in range(width)
    ]
    return np.array(rows, dtype=np.float64)


def test_a_convolution_gets_the_least_squares_solution_of_numpy(make_task):
    task = make_task("plain")
    dense = copy.deepcopy(task)
    (group,) = [g for g in find_groups(task).groups if g.layer == "body.0.0"]
    plan = [(group, [1, 4, 5, 11])]
    given = batches(2)
    compensate_(task, plan, given, Compensation(ridge=1e-12))
    kept = [channel for channel in range(16) if channel not in (1, 4, 5, 11)]
    images = torch.cat([batch for batch, _ in given])
    _, wanted = captured(dense, "body.1.0", images)
    read, _ = captured(masked_copy(dense, plan), "body.1.0", images)
    rows = patches(read[:, kept].numpy())
    aims = wanted.permute(0, 2, 3, 1).reshape(-1, 12).double().numpy()
    solution = np.linalg.lstsq(rows, aims, rcond=None)[0]
    weight = task.net.body[1][0].weight.detach()[:, kept].reshape(12, -1).T
    assert np.allclose(weight.numpy(), solution, atol=1e-4)
    # What goes, and what reads nothing of it, is as it was.
    assert torch.equal(task.net.body[0][0].weight, dense.net.body[0][0].weight)
    gone = [1, 4, 5, 11]
    assert torch.equal(task.net.body[1][0].weight[:, gone], dense.net.body[1][0].weight[:, gone])
    assert torch.equal(task.net.fc.weight, dense.net.fc.weight)


def test_a_linear_layer_gets_the_ridge_solution_of_numpy_with_its_bias(make_task):
    task = make_task("flat")
    dense = copy.deepcopy(task)
    (group,) = [g for g in find_groups(task).groups if g.layer == "hidden"]
    plan = [(group, list(range(0, 24, 3)))]
    given = batches(4)
    compensate_(task, plan, given, Compensation(ridge=0.05))
    kept = [unit for unit in range(24) if unit % 3]
    images = torch.cat([batch for batch, _ in given])
    _, wanted = captured(dense, "fc", images)
    read, _ = captured(masked_copy(dense, plan), "fc", images)
    rows = np.hstack([read[:, kept].double().numpy(), np.ones((len(images), 1))])
    start = torch.cat([dense.net.fc.weight[:, kept], dense.net.fc.bias[:, None]], 1)
    start = start.detach().double().numpy().T
    # Ridge towards the start as one least-squares problem: further rows that ask for no change.
    penalty = 0.05 * np.mean(np.sum(rows**2, 0))
    more = np.sqrt(penalty) * np.eye(rows.shape[1])
    aims = np.vstack([wanted.double().numpy(), more @ start])
    solution = np.linalg.lstsq(np.vstack([rows, more]), aims, rcond=None)[0]
    found = torch.cat([task.net.fc.weight[:, kept], task.net.fc.bias[:, None]], 1)
    assert np.allclose(found.detach().numpy().T, solution, atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "residual", "concat", "squeeze", "flat", "split"])
def test_no_layer_is_further_from_the_dense_network_than_before(make_task, name):
    task = make_task(name)
    dense = copy.deepcopy(task)
    plan, given = planned(task), batches()
    found = compensate_(task, plan, given)
    assert found.errors
    assert all(after <= before for before, after in found.errors.values())
    images = torch.cat([batch for batch, _ in given])
    # Measured again from outside for the first reader, whose inputs no other fit changes.
    first = next(iter(found.errors))
    _, wanted = captured(dense, first, images)
    outputs = [captured(masked_copy(net, plan), first, images)[1].double() for net in (dense, task)]
    kept = outputs[0].movedim(1, -1).flatten(0, -2).abs().sum(0) > 0
    errors = [float((out - wanted).movedim(1, -1)[..., kept].square().mean()) for out in outputs]
    assert errors == pytest.approx(list(found.errors[first]), rel=1e-3)
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize(
    "name", ["residual", "concat", "depthwise", "grouped", "squeeze", "split", "transposed", "vit"]
)
def test_masked_and_cut_networks_agree_after_it(make_task, name):
    task = make_task(name)
    plan = planned(task)
    compensate_(task, plan, batches(1))
    masked, cut = clone(task), clone(task)
    mask_(masked, plan)
    cut_(cut, plan)
    assert check_exact(masked, cut) <= 1e-9
    assert cut_exactly_(task, plan, None)[2] == {}


def test_later_layers_are_fitted_behind_those_before(make_task):
    """Two networks that differ in an early layer alone give later ones other inputs."""
    task = make_task("plain")
    dense, plan = copy.deepcopy(task), planned(task, 0.5)
    given = batches(2)
    compensate_(task, plan, given, Compensation(ridge=1e-12))
    images = torch.cat([batch for batch, _ in given])
    _, wanted = captured(dense, "fc", images)
    fitted = masked_copy(task, plan)
    read, _ = captured(fitted, "fc", images)
    kept = read.abs().sum(0) > 0
    rows = torch.cat([read[:, kept], torch.ones(len(read), 1)], 1).double().numpy()
    solution = np.linalg.lstsq(rows, wanted.double().numpy(), rcond=None)[0]
    assert np.allclose(rows @ solution, captured(fitted, "fc", images)[1].numpy(), atol=1e-3)


@pytest.mark.parametrize(
    ("net", "layer", "said"),
    [
        ("depthwise", "body.1.0", "it is depthwise"),
        ("grouped", "body.1.0", "it is a grouped convolution"),
        ("transposed", "body.1", "ConvTranspose2d is not fitted"),
    ],
)
def test_readers_that_are_left_are_told_by_name(make_task, net, layer, said):
    task = make_task(net)
    before = copy.deepcopy(task.net.state_dict())
    found = compensate_(task, planned(task), batches(1))
    assert said in found.left[layer]
    assert layer not in found.errors
    assert torch.equal(task.net.state_dict()[f"{layer}.weight"], before[f"{layer}.weight"])


def test_heads_are_compensated_by_the_layer_that_joins_them(make_task):
    task = make_task("vit")
    attention = "encoder.layers.encoder_layer_0.self_attention"
    (group,) = [g for g in find_groups(task).groups if g.layer == attention]
    found = compensate_(task, [(group, [1])], batches())
    assert found.left == {}
    ((layer, (before, after)),) = found.errors.items()
    assert layer == f"{attention}.out_proj"
    assert after < before


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda net: net.body[1][0].requires_grad_(False), "it is frozen"),
        (
            lambda net: mask_weights_(
                net, {"body.1.0.weight": torch.rand_like(net.body[1][0].weight) > 0.5}
            ),
            "single weights of it are masked",
        ),
        (
            lambda net: setattr(net.body[1][0], "__class__", Standardised),
            "it computes more than its weight times its input",
        ),
    ],
)
def test_layers_that_least_squares_would_spoil_are_left(make_task, change, said):
    task = make_task("plain")
    plan = planned(task)
    change(task.net)
    before = task.net.body[1][0].weight.detach().clone()
    found = compensate_(task, plan, batches(1))
    assert found.left == {"body.1.0": said}
    assert torch.equal(task.net.body[1][0].weight, before)
    assert list(found.errors) == ["fc"]


class Regions(nn.Module):
    """Reads pooled regions, whose boxes another network might choose otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool, self.fc = nn.Conv2d(3, 8, 3), RoIAlign(2, 1.0, 1), nn.Linear(8, 3)

    def forward(self, x):
        box = torch.tensor([[2.0, 2.0, 9.0, 9.0]]).to(x)
        return self.fc(self.pool(self.stem(x), [box] * len(x)).mean((2, 3)))


def test_what_reads_regions_is_left(make_task):
    task = make_task(Regions())
    units = tuple((unit,) for unit in range(8))
    group = Group("stem", (Member("stem", "out", units), Member("fc", "in", units)))
    found = compensate_(task, [(group, [1, 2])], batches(1))
    assert found.errors == {}
    assert found.left == {"fc": "it reads regions that each network chooses by itself"}


def test_images_are_counted_and_needed(make_task):
    counts = [len(images) for images in calibration_images(batches(3), 13)]
    assert counts == [8, 5]
    assert sum(len(images) for images in calibration_images(batches(3), 99)) == 24
    with pytest.raises(BadInput, match="no training images"):
        compensate_(make_task("plain"), [], [])


@pytest.mark.parametrize("options", [{"num_images": 0}, {"ridge": 0.0}, {"ridge": float("nan")}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(BadInput, match="must be at least 1 and above 0"):
        Compensation(**options)


def test_a_removal_compensates_what_it_cuts_and_nothing_by_default(make_task):
    task, selection = make_task("residual"), Selection(round_to=1)
    plain, fitted = clone(task), clone(task)
    kept = {"macs": 0.6}
    Channels(task, Target(macs=0.6), selection).cut_(plain, batches(), kept, tightly=True)
    channels = Channels(task, Target(macs=0.6), selection, compensation=Compensation())
    cut = channels.cut_(fitted, batches(), kept, tightly=True)
    assert cut.error <= 1e-9
    assert channels.compensated.errors
    images = torch.cat([batch for batch, _ in batches()])
    for one in (task, plain, fitted):
        one.net.eval()
    wanted = task(images)["logits"]
    far, near = ((one(images)["logits"] - wanted).square().mean() for one in (plain, fitted))
    assert near < 0.5 * far
