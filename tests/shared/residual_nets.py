"""Networks of residual blocks, with statistics and biases that are not trivial."""

from collections.abc import Callable

import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from regrow.models.nets.cifar import CifarResNet
from regrow.models.task import Task
from regrow.prune.plain_task import as_task


class Plain(nn.Module):
    """A residual block without any norm, and what else may stand behind its last layer."""

    def __init__(self, behind: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.behind = behind or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.behind(self.second(self.first(x).relu()))


def plain(behind: nn.Module | None = None) -> nn.Module:
    stem, pool = nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(stem, nn.ReLU(), Plain(behind), pool, nn.Flatten(), nn.Linear(8, 3))


def resnet(block: type[nn.Module], **options: int) -> nn.Module:
    """Return torchvision's ResNet with two stages of four."""
    net = torchvision.models.ResNet(block, [1, 2, 1, 1], num_classes=3, **options)
    net.layer3, net.layer4 = nn.Identity(), nn.Identity()
    net.fc = nn.Linear(128 * block.expansion, 3)
    return net


def inverted() -> nn.Module:
    setting = [[1, 8, 1, 1], [3, 8, 2, 2], [3, 12, 2, 2]]
    return torchvision.models.MobileNetV2(3, inverted_residual_setting=setting)


# By their name: how they are made, the blocks with a branch that can go, the layer that reads last.
NETS: dict[str, tuple[Callable[[], nn.Module], list[str], str]] = {
    "cifar": (
        lambda: CifarResNet(20, 3),
        [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(3)],
        "conv2",
    ),
    "basic": (lambda: resnet(BasicBlock), ["layer1.0", "layer2.0", "layer2.1"], "conv2"),
    "bottleneck": (
        lambda: resnet(Bottleneck, width_per_group=16),
        ["layer1.0", "layer2.0", "layer2.1"],
        "conv3",
    ),
    "inverted": (inverted, ["features.3", "features.5"], "conv.2"),
    "squeeze": (
        lambda: timm.create_model(
            "mobilenetv3_small_050", num_classes=3, drop_path_rate=0.5, drop_rate=0.0
        ),
        [f"blocks.{part}" for part in ("1.1", "2.1", "2.2", "3.0", "3.1", "4.1", "4.2")],
        "conv_pwl",
    ),
    "plain": (plain, ["2"], "second"),
}  # fmt: skip


def settle_(net: nn.Module) -> None:
    """Give norms the statistics and scales of a net that was trained."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean.copy_(0.3 * torch.randn(shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(shape, generator=generator))
            nn.init.normal_(module.weight, 1.0, 0.3, generator=generator)
            nn.init.normal_(module.bias, 0.0, 0.3, generator=generator)


def residual_task(net: str | nn.Module, size: int = 32) -> Task:
    """Return the task around a network, in float64 and evaluation mode."""
    torch.manual_seed(0)
    net = NETS[net][0]() if isinstance(net, str) else net
    settle_(net)
    return as_task(net, (size, size)).double().eval()
