"""CIFAR ResNets: residual networks for 32x32 images, with parameter-free shortcuts (option A).

Source: He et al., Deep Residual Learning for Image Recognition, 2015, arXiv 1512.03385, 4.2.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class PadShortcut(nn.Module):
    """Shortcut that halves the resolution and pads new channels with zeros.

    Args:
        added: Number of new channels, half of them before the old ones and half after.
    """

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, maps: Tensor) -> Tensor:
        """Map (b, d, h, w) to (b, d + added, h / 2, w / 2), taking every second pixel."""
        half = self.added // 2
        return F.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, half, self.added - half))


class Block(nn.Module):
    """Residual block of two 3x3 convolutions."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Identity() if stride == 1 else PadShortcut(width - inputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Compute the output of the block."""
        inner = F.relu(self.bn1(self.conv1(maps)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(maps))


class CifarResNet(nn.Module):
    """ResNet for 32x32 images.

    Args:
        depth: Number of layers, 6 n + 2.
        num_classes: Number of classes.

    Raises:
        ValueError: If the depth is not 6 n + 2.
    """

    def __init__(self, depth: int, num_classes: int) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth is {depth}; a CIFAR ResNet has 6 n + 2 layers")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, 1)
        self.layer2 = _stage(16, 32, blocks, 2)
        self.layer3 = _stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (b, c) for images (b, 3, h, w)."""
        maps = F.relu(self.bn1(self.conv1(images)))
        maps = self.layer3(self.layer2(self.layer1(maps)))
        logits: Tensor = self.linear(maps.mean((2, 3)))
        return logits


def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = Block(inputs, width, stride)
    return nn.Sequential(first, *(Block(width, width, 1) for _ in range(blocks - 1)))
