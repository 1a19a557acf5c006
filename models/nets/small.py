"""Small networks for the built-in sample: classifier, backbone and segmenter."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Build a convolution with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Residual block of two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv(width, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        """Compute the output of the block."""
        return F.relu(maps + self.norm(self.second(self.first(maps))))


class SmallClassifier(nn.Module):
    """Residual classifier for 32x32 images, about 4.2 million multiply-accumulates.

    Args:
        num_classes: Number of classes.
        width: Number of channels of the first stage; later ones have two and four times as many.
    """

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = conv(3, width, 2)
        self.one = Residual(width)
        self.two = nn.Sequential(conv(width, 2 * width, 2), Residual(2 * width))
        self.three = nn.Sequential(conv(2 * width, 4 * width, 2), Residual(4 * width))
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (b, c) for images (b, 3, h, w)."""
        maps = self.three(self.two(self.one(self.stem(images))))
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits


class SmallBackbone(nn.Module):
    """Backbone with feature maps at strides 4 and 8.

    Args:
        width: Number of channels at stride 2; the maps have two and four times as many.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = conv(3, width, 2)
        self.one = nn.Sequential(conv(width, 2 * width, 2), Residual(2 * width))
        self.two = nn.Sequential(conv(2 * width, 4 * width, 2), Residual(4 * width))
        self.channels = [2 * width, 4 * width]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps, finest first."""
        fine = self.one(self.stem(images))
        return [fine, self.two(fine)]


class SmallSegmenter(nn.Module):
    """Segmentation network of an encoder and a decoder with skip connections, as in U-Net.

    Args:
        num_classes: Number of classes.
        width: Number of channels at stride 2; deeper levels have two and four times as many.
    """

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = conv(3, width, 2)
        self.one = nn.Sequential(conv(width, 2 * width, 2), Residual(2 * width))
        self.two = nn.Sequential(conv(2 * width, 4 * width, 2), Residual(4 * width))
        self.up_one = conv(6 * width, 2 * width)
        self.up_stem = conv(3 * width, width)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (b, c, h, w) for images (b, 3, h, w)."""
        stem = self.stem(images)
        one = self.one(stem)
        maps = self.up_one(torch.cat([enlarged(self.two(one), one), one], 1))
        maps = self.up_stem(torch.cat([enlarged(maps, stem), stem], 1))
        return enlarged(self.head(maps), images)


def enlarged(maps: Tensor, like: Tensor) -> Tensor:
    """Resize maps (b, d, h, w) to the height and width of others, by bilinear interpolation."""
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)
