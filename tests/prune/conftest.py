"""Small networks of every shape that pruning must cope with, and a task around them."""

from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
from timm.layers import RelPosBias
from timm.models.levit import Attention as LevitAttention
from timm.models.maxxvit import AttentionCl
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import SwinTransformer, VisionTransformer
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from regrow.prune.plain_task import PlainTask


class AnyTask(PlainTask):
    """A task around any network that gives one tensor, its logits, or a mapping of tensors."""

    score = "accuracy"

    def outputs(self, features: Tensor) -> dict[str, Tensor]:
        out = self.net(features)
        return out if isinstance(out, dict) else {"logits": out}

    def losses(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        return {"ce": functional.cross_entropy(outputs["logits"], targets)}


def conv(inputs: int, outputs: int, size: int = 3, **options: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False, **options),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Head(nn.Module):
    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        self.fc = nn.Linear(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean((2, 3)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv(3, 16), conv(16, 12), conv(12, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x + self.b(self.a(x))


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv(3, 8), conv(8, 8), conv(24, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.b(torch.cat([x, self.a(x), x], 1))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = conv(3, 16), conv(16, 8)
        self.down, self.up = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.last(x * gate)


class Split(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv(3, 16), conv(8, 8), conv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, 1)
        return torch.cat([self.a(left), self.b(right)], 1)


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = conv(3, 16), conv(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, d, h, w = x.shape
        return self.last(x.view(b, 2, d // 2, h, w).transpose(1, 2).reshape(b, d, h, w))


class ChannelShuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = conv(3, 16), conv(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.channel_shuffle(self.stem(x), 2))


class Padded(nn.Module):
    """An option A shortcut: every second pixel, and zeros for the new channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv(3, 8), conv(8, 12, stride=2), conv(12, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.b(self.a(x)) + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.hidden, self.fc = nn.Linear(8 * 4 * 4, 24), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool2d(self.stem(x), 4).flatten(1)
        return self.fc(self.hidden(x).relu())


class ChannelMean(nn.Module):
    """A statistic over channels that no layer shows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = conv(3, 16), conv(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(x - x.mean(1, keepdim=True))


NETS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: Head(nn.Sequential(conv(3, 16), conv(16, 12)), 12),
    "residual": lambda: Head(Residual(), 16),
    "concat": lambda: Head(Concat(), 12),
    "squeeze": lambda: Head(SqueezeExcite(), 8),
    "depthwise": lambda: Head(
        nn.Sequential(conv(3, 16), conv(16, 16, groups=16), conv(16, 12, 1)), 12
    ),
    "grouped": lambda: Head(nn.Sequential(conv(3, 16), conv(16, 24, groups=4), conv(24, 8)), 8),
    "split": lambda: Head(Split(), 16),
    "shuffle": lambda: Head(Shuffle(), 8),
    "channel_shuffle": lambda: Head(ChannelShuffle(), 8),
    "padded": lambda: Head(Padded(), 16),
    "flat": Flat,
    "channel_mean": lambda: Head(ChannelMean(), 8),
    "transposed": lambda: Head(
        nn.Sequential(conv(3, 16), nn.ConvTranspose2d(16, 12, 2, stride=2), conv(12, 8)), 8
    ),
    "group_norm": lambda: Head(
        nn.Sequential(nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), conv(16, 8)), 8
    ),
}


class Tokens(nn.Module):
    """Patches of images, attention between them, and a residual stream without any norm."""

    def __init__(self, attention: nn.Module, channels: int = 24) -> None:
        super().__init__()
        self.stem, self.attn = nn.Conv2d(3, channels, 4, 4), attention
        self.fc = nn.Linear(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.fc((x + self.attn(x)).mean(1))


def swin(**options: object) -> nn.Module:
    return SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=3, **options)


def vit() -> nn.Module:
    net = VisionTransformer(16, 4, 2, 4, 16, 24, num_classes=3)
    # It begins at zero, which would hide all that is before.
    nn.init.normal_(net.heads.head.weight)
    return net


# Each with the attention layers whose heads can be pruned.
TRANSFORMERS: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "vit": (vit, {f"encoder.layers.encoder_layer_{i}.self_attention": 4 for i in range(2)}),
    "swin": (swin, {f"features.{s}.{b}.attn": s + 1 for s in (1, 3) for b in range(2)}),
    "swin_v2": (
        lambda: swin(block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2),
        {f"features.{s}.{b}.attn": s + 1 for s in (1, 3) for b in range(2)},
    ),
    "timm_vit": (
        lambda: timm.create_model(
            "vit_tiny_patch16_224", img_size=16, patch_size=4, embed_dim=24, depth=2, num_classes=3
        ),
        {"blocks.0.attn": 3, "blocks.1.attn": 3},
    ),
    "timm_swin": (
        lambda: timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=16,
            depths=(2, 2), num_heads=(2, 4), num_classes=3,
        ),
        {f"layers.{s}.blocks.{b}.attn": 2 * s + 2 for s in range(2) for b in range(2)},
    ),
    # Heads one after another, each with its query, key and value, and norms behind the layers.
    "levit": (lambda: Tokens(LevitAttention(24, 4, 3, 2.0, resolution=4)), {"attn": 3}),
    "coatnet": (
        lambda: Tokens(AttentionCl(24, dim_head=8, rel_pos_cls=partial(RelPosBias, (4, 4)))),
        {"attn": 3},
    ),
}  # fmt: skip


def settle_(net: nn.Module) -> None:
    """Set norms to the statistics of a net that was trained."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            shape = module.running_mean.shape
            module.running_mean.copy_(0.1 * torch.randn(shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(shape, generator=generator))


@pytest.fixture
def make_task() -> Callable[..., AnyTask]:
    def make(net: str | nn.Module, size: int = 16, output_layers: tuple[str, ...] = ()) -> AnyTask:
        torch.manual_seed(0)
        if isinstance(net, str):
            net = NETS[net]() if net in NETS else TRANSFORMERS[net][0]()
        settle_(net)
        task = AnyTask(["a", "b", "c"], (size, size), mean=(0.5,) * 3, std=(1.0,) * 3)
        task.net, task.fixed = net, output_layers
        return task

    return make


@pytest.fixture(params=list(TRANSFORMERS))
def transformer(request, make_task) -> tuple[AnyTask, dict[str, int]]:
    """A task around each transformer, and the number of heads of its attention layers by name."""
    name = request.param
    return make_task(name, 32 if "swin" in name else 16), TRANSFORMERS[name][1]
