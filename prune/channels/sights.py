"""Test images on which networks are compared: noise, ramps of grey, and real ones."""

import torch
from torch import Tensor

from regrow.models.task import Task


def sights(task: Task, images: Tensor | None = None) -> list[Tensor]:
    """Return batches to compare networks on, uint8 (b, 3, h, w): noise, ramps of grey, images.

    Some of the noise is almost black, and some almost white.

    Args:
        task: The task.
        images: Real images, uint8 or as the task takes them.
    """
    noise = task.example_images(2)
    height, width = noise.shape[-2:]
    down = torch.linspace(0, 1, height, device=noise.device)[:, None]
    across = torch.linspace(0, 1, width, device=noise.device)
    dark, bright = 40 * down * across, 255 - 60 * (down - across).abs()
    ramps = torch.stack([dark, bright])[:, None].round().to(torch.uint8)
    # What is grey has three equal channels, which could hide that they change places.
    ramps = torch.cat([ramps, ramps.flip(-1), ramps.flip(-2)], 1)
    faint = noise // 128
    found = [noise, torch.cat([ramps, faint[:1], 255 - faint[1:]])]
    return found if images is None else [*found, images.to(noise.device)]
