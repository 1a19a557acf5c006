import pytest
import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.masks import mask_weights_, masks_of
from regrow.prune.criteria import (
    Taylor,
)
from regrow.prune.masking import SingleWeights, Weights
from regrow.prune.removal import NOTHING
from regrow.prune.weights import choose_masks, find_weights, score_weights


def test_steps_mask_ever_more_to_the_weight(make_task) -> None:
    task = make_task("residual", output_layers=("fc",))
    names, _ = find_weights(task)
    total = sum(task.net.get_parameter(name).numel() for name in names)
    before: dict[str, Tensor] = {}
    for share in (0.3, 0.6, 0.9):
        scores = score_weights(task, names, Taylor(1), [(task.example_images(3), torch.arange(3))])
        mask_weights_(task.net, choose_masks(task.net, scores, share))
        masks = masks_of(task.net)
        gone = sum(int((~mask).sum()) for mask in masks.values())
        zeros = sum(int((task.net.get_parameter(name) == 0).sum()) for name in names)
        assert gone == zeros == round(share * total)
        assert all(not (masks[name] & ~old).any() for name, old in before.items())
        before = masks


def test_a_pattern_is_one_step_and_takes_half_of_each_block(make_task) -> None:
    task = make_task("plain", output_layers=("fc",))
    weights = SingleWeights(task, Weights(pattern="2:4"))
    assert not weights.is_divisible
    assert weights.cut_(task, [], {"weights": 0.6}, tightly=False) == NOTHING
    assert not masks_of(task.net)
    cut = weights.cut_(task, [], {"weights": 0.2}, tightly=True)
    # Three input channels are no multiple of four.
    assert "its 3 inputs are no multiple of 4" in weights.left_whole["body.0.0.weight"]
    assert cut is not None
    assert cut.num_masked == task.net.body[1][0].weight.numel() // 2
    assert (cut.removed, cut.units, cut.latency) == ({}, {}, None)


def test_the_network_itself_is_the_reference_unless_there_is_another(make_task) -> None:
    task, other = make_task("plain"), make_task("plain")
    assert SingleWeights(task).reference is task
    assert SingleWeights(task, reference=other).reference is other
    assert SingleWeights(task).shares == {"weights": pytest.approx(0.2)}


def test_a_network_without_such_weights_is_bad_input(make_task) -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1, groups=3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(BadInput, match="there are no weights to mask"):
        SingleWeights(make_task(net))


def test_shares_of_single_weights_out_of_range_are_bad_input() -> None:
    for options in ({"share": 0.0}, {"share": 1.0}, {"max_share": 0.0}, {"max_share": 1.1}):
        with pytest.raises(BadInput, match=r"weights\.share is .* and weights\.max_share"):
            Weights(**options)
