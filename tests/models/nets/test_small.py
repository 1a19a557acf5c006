"""The small networks of the built-in sample: their costs, shapes, and blocks worked by hand."""

import pytest
import torch

from regrow.models.classification import Classification
from regrow.models.cost import count_macs
from regrow.models.nets.small import (
    Residual,
    SmallBackbone,
    SmallClassifier,
    SmallSegmenter,
    enlarged,
)


def test_the_classifier_costs_what_it_says() -> None:
    task = Classification([str(n) for n in range(10)], (32, 32))
    assert isinstance(task.net, SmallClassifier)
    # Filters of 3 x 3 at 16 x 16, 8 x 8 and 4 x 4 pixels, and the last layer.
    one = 16 * 16 * 9 * (3 * 16 + 2 * 16 * 16)
    two = 8 * 8 * 9 * (16 * 32 + 2 * 32 * 32)
    three = 4 * 4 * 9 * (32 * 64 + 2 * 64 * 64)
    assert count_macs(task) == one + two + three + 64 * 10
    assert count_macs(task) == pytest.approx(4.2e6, rel=0.02)


def test_the_backbone_gives_maps_at_strides_4_and_8() -> None:
    net = SmallBackbone(width=3)
    maps = net(torch.zeros(1, 3, 48, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(6, 12, 8), (12, 6, 4)]
    assert net.channels == [6, 12]


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_the_segmenter_gives_scores_of_every_pixel(size: tuple[int, int]) -> None:
    assert SmallSegmenter(3, width=2)(torch.zeros(2, 3, *size)).shape == (2, 3, *size)


def test_a_block_without_weights_lets_what_is_positive_through() -> None:
    block = Residual(2).eval()
    with torch.no_grad():
        block.second.weight.zero_()
    maps = torch.tensor([-1.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    assert torch.equal(block(maps), maps.clamp(min=0))


def test_maps_are_enlarged_between_their_pixels() -> None:
    row = torch.tensor([0.0, 4.0]).view(1, 1, 1, 2)
    # Pixels lie half a pixel inside: at -0.25, 0.25, 0.75 and 1.25 of the old ones.
    assert enlarged(row, torch.zeros(1, 1, 1, 4)).flatten().tolist() == [0, 1, 3, 4]
