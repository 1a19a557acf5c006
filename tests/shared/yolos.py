"""A small detector made as YOLOs are: split and joined blocks, a neck, a head of distances."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvNorm(nn.Sequential):
    """A convolution, a batch norm and SiLU."""

    def __init__(self, num_in: int, num_out: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(num_in, num_out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(num_out),
            nn.SiLU(),
        )


class Bottleneck(nn.Module):
    """Two convolutions, added to what they read where `adds`."""

    def __init__(self, num: int, adds: bool) -> None:
        super().__init__()
        self.one, self.two, self.adds = ConvNorm(num, num, 3), ConvNorm(num, num, 3), adds

    def forward(self, x: Tensor) -> Tensor:
        read = self.two(self.one(x))
        return x + read if self.adds else read


class C2f(nn.Module):
    """Half of the channels go through blocks, and all that they give on the way is joined."""

    def __init__(self, num_in: int, num_out: int, num_blocks: int, adds: bool) -> None:
        super().__init__()
        half = num_out // 2
        self.enter = ConvNorm(num_in, 2 * half)
        self.leave = ConvNorm((2 + num_blocks) * half, num_out)
        self.blocks = nn.ModuleList(Bottleneck(half, adds) for _ in range(num_blocks))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class Sppf(nn.Module):
    """The same map pooled once, twice and three times, joined."""

    def __init__(self, num: int) -> None:
        super().__init__()
        self.enter, self.leave = ConvNorm(num, num // 2), ConvNorm(2 * num, num)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class Distances(nn.Module):
    """Reads each side of a box as the mean of a distribution over bins (DFL)."""

    def __init__(self, num_bins: int) -> None:
        super().__init__()
        self.num_bins = num_bins
        self.mean = nn.Conv2d(num_bins, 1, 1, bias=False).requires_grad_(False)
        self.mean.weight.data[:] = torch.arange(num_bins).view(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, n = x.shape
        shares = x.view(b, 4, self.num_bins, n).transpose(2, 1).softmax(1)
        return self.mean(shares).view(b, 4, n)


class Yolo(nn.Module):
    """Backbone, a neck down and up again (PAN), and a decoupled head at three scales.

    Gives the maps of each scale, as the loss reads them; in evaluation before them boxes in pixels,
    xyxy, and the scores of the classes, (b, 4 + c, n).
    """

    strides = (8, 16, 32)

    def __init__(self, num_classes: int = 3, num: int = 8, num_bins: int = 4) -> None:
        super().__init__()
        wide, wider, widest = 4 * num, 8 * num, 8 * num
        self.stem = nn.Sequential(ConvNorm(3, num, 3, 2), ConvNorm(num, 2 * num, 3, 2))
        self.stage2 = C2f(2 * num, 2 * num, 1, True)
        self.stage3 = nn.Sequential(ConvNorm(2 * num, wide, 3, 2), C2f(wide, wide, 2, True))
        self.stage4 = nn.Sequential(ConvNorm(wide, wider, 3, 2), C2f(wider, wider, 2, True))
        self.stage5 = nn.Sequential(
            ConvNorm(wider, widest, 3, 2), C2f(widest, widest, 1, True), Sppf(widest)
        )
        self.up4 = C2f(widest + wider, wider, 1, False)
        self.up3 = C2f(wider + wide, wide, 1, False)
        self.down3, self.join4 = ConvNorm(wide, wide, 3, 2), C2f(wide + wider, wider, 1, False)
        self.down4, self.join5 = ConvNorm(wider, wider, 3, 2), C2f(wider + widest, widest, 1, False)
        widths = (wide, wider, widest)
        self.boxes = nn.ModuleList(
            nn.Sequential(ConvNorm(n, 2 * num, 3), nn.Conv2d(2 * num, 4 * num_bins, 1))
            for n in widths
        )
        self.classes = nn.ModuleList(
            nn.Sequential(ConvNorm(n, 3 * num, 3), nn.Conv2d(3 * num, num_classes, 1))
            for n in widths
        )
        self.distances = Distances(num_bins)
        self.num_classes, self.num_bins = num_classes, num_bins

    def forward(self, images: Tensor) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        low = self.stage3(self.stage2(self.stem(images)))
        middle = self.stage4(low)
        high = self.stage5(middle)
        middle = self.up4(torch.cat([functional.interpolate(high, scale_factor=2.0), middle], 1))
        low = self.up3(torch.cat([functional.interpolate(middle, scale_factor=2.0), low], 1))
        middle = self.join4(torch.cat([self.down3(low), middle], 1))
        high = self.join5(torch.cat([self.down4(middle), high], 1))
        heads = zip(self.boxes, self.classes, (low, middle, high), strict=True)
        maps = [torch.cat([boxes(x), classes(x)], 1) for boxes, classes, x in heads]
        return maps if self.training else (self.decode(maps), maps)

    def decode(self, maps: list[Tensor]) -> Tensor:
        """Return boxes and scores, (b, 4 + c, n), of the joined maps of each scale."""
        flat = torch.cat([x.flatten(2) for x in maps], 2)
        sides, scores = flat.split((4 * self.num_bins, self.num_classes), 1)
        near, far = self.distances(sides).chunk(2, 1)
        places, steps = self.places(maps)
        boxes = torch.cat([places - near, places + far], 1) * steps
        return torch.cat([boxes, scores.sigmoid()], 1)

    def places(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the centre of each cell in cells, (2, n), and the pixels of a cell, (1, n)."""
        found, steps = [], []
        for x, stride in zip(maps, self.strides, strict=True):
            rows, columns = (torch.arange(n, dtype=x.dtype) + 0.5 for n in x.shape[2:])
            y, x_ = torch.meshgrid(rows, columns, indexing="ij")
            found.append(torch.stack([x_, y]).flatten(1))
            steps.append(torch.full((1, found[-1].shape[1]), stride, dtype=x.dtype))
        return torch.cat(found, 1), torch.cat(steps, 1)
