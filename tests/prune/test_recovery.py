import pytest
import torch
from torch import nn

from regrow.errors import BadInput
from regrow.prune.recovery import reestimate_batchnorm_


def data(count: int = 3) -> list:
    generator = torch.Generator().manual_seed(0)
    shape = (4, 3, 16, 16)
    return [
        (torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), None)
        for _ in range(count)
    ]


def test_statistics_are_plain_averages_over_batches(make_task):
    task = make_task("plain")
    assert reestimate_batchnorm_(task, data()) == 2
    norm, layer = task.net.body[0][1], task.net.body[0][0]
    maps = [layer(task.prepare(images)) for images, _ in data()]
    mean = torch.stack([x.mean((0, 2, 3)) for x in maps]).mean(0)
    variance = torch.stack([x.var((0, 2, 3), unbiased=True) for x in maps]).mean(0)
    assert torch.allclose(norm.running_mean, mean, atol=1e-6)
    assert torch.allclose(norm.running_var, variance, rtol=1e-5)


def test_modes_momenta_and_frozen_norms_stay(make_task):
    task = make_task("plain")
    task.net.eval()
    task.net.fc.train()
    norm, frozen = task.net.body[0][1], task.net.body[1][1]
    norm.momentum = 0.3
    frozen.requires_grad_(False)
    kept = frozen.running_mean.clone()
    modes = [module.training for module in task.net.modules()]
    assert reestimate_batchnorm_(task, data()) == 1
    assert [module.training for module in task.net.modules()] == modes
    assert norm.momentum == 0.3
    assert torch.equal(frozen.running_mean, kept)


def test_norms_that_no_image_reaches_keep_their_statistics(make_task):
    class Domains(nn.Module):
        """A norm for each of two sources of images, of which evaluation takes the first."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norms[int(self.training)](self.stem(x))

    task = make_task(Domains())
    reached, other = task.net.norms
    other.num_batches_tracked.fill_(7)
    kept = {name: value.clone() for name, value in other.state_dict().items()}
    assert reestimate_batchnorm_(task, data()) == 1
    assert all(torch.equal(value, kept[name]) for name, value in other.state_dict().items())
    maps = [task.net.stem(task.prepare(images)) for images, _ in data()]
    mean = torch.stack([x.mean((0, 2, 3)) for x in maps]).mean(0)
    assert torch.allclose(reached.running_mean, mean, atol=1e-6)


def test_dropout_is_off(make_task):
    net = nn.Sequential(nn.Dropout(0.9), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    task = make_task(net)
    reestimate_batchnorm_(task, data())
    first = net[2].running_var.clone()
    reestimate_batchnorm_(task, data())
    assert torch.equal(first, net[2].running_var)


def test_a_net_without_norms_needs_no_images(make_task):
    assert reestimate_batchnorm_(make_task(nn.Conv2d(3, 4, 1)), []) == 0


def test_no_images_are_bad_input_and_change_nothing(make_task):
    task = make_task("plain")
    kept = task.net.body[0][1].running_mean.clone()
    # One image alone has no variance where the map is one pixel.
    single = [(images[:1], None) for images, _ in data()]
    for batches in ([], single):
        with pytest.raises(BadInput, match="no training images"):
            reestimate_batchnorm_(task, batches)
    assert torch.equal(task.net.body[0][1].running_mean, kept)
