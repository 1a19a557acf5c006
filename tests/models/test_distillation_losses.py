"""The formulas against figures worked by hand, torch.distributions and brute force."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from regrow.errors import BadInput
from regrow.models.distillation_losses import (
    Shared,
    attention_distance,
    centred_logits,
    channel_divergence,
    focused_divergence,
    one_against_rest,
    shared_classes,
    soft_divergence,
)
from regrow.models.nets.detector import Detector
from regrow.models.nets.fcos import Fcos
from regrow.models.nets.one_stage import TorchvisionFcos


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def logit(share: float) -> float:
    return math.log(share / (1 - share))


# ---- classes


def test_classes_in_the_same_order_need_no_copy() -> None:
    assert shared_classes(["a", "b"], ["a", "b"]) == Shared(slice(None), slice(None))


def test_shared_classes_are_found_by_name() -> None:
    assert shared_classes(["c", "new", "a"], ["a", "b", "c"]) == Shared([0, 2], [2, 0])


# ---- probabilities


def test_divergence_of_two_classes_worked_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)]])  # 1/4 and 3/4
    wanted = torch.zeros(1, 2)
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert soft_divergence(logits, wanted, Shared()).item() == pytest.approx(expected)
    softened = soft_divergence(2 * logits, wanted, Shared(), temperature=2)
    assert softened.item() == pytest.approx(4 * expected)


@pytest.mark.parametrize("places", [(), (3, 5)])
def test_divergence_is_that_of_torch_distributions(places: tuple[int, ...]) -> None:
    logits, wanted = noise(4, 6, *places), noise(4, 6, *places, seed=1)
    student, teacher = (Categorical(logits=z.movedim(1, -1) / 3) for z in (logits, wanted))
    expected = 9 * kl_divergence(teacher, student).mean()
    torch.testing.assert_close(soft_divergence(logits, wanted, Shared(), 3.0), expected)
    half = soft_divergence(logits.bfloat16(), wanted.bfloat16(), Shared(), 3.0)
    assert half.dtype == torch.float32


def test_channel_wise_divergence_worked_by_hand() -> None:
    """Two places of two classes: one seen at 1/4 and 3/4 for 1/2 and 1/2, one alike."""
    maps = torch.tensor([[[0.0, math.log(3)], [5.0, 5.0]]])
    wanted = torch.zeros(1, 2, 2)
    apart = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert channel_divergence(maps, wanted, Shared()).item() == pytest.approx(apart / 2)
    softened = channel_divergence(2 * maps, wanted, Shared(), temperature=2)
    assert softened.item() == pytest.approx(4 * apart / 2)
    as_pictures = channel_divergence(maps[..., None], wanted[..., None], Shared())
    assert as_pictures.item() == pytest.approx(apart / 2)


def test_divergence_is_among_shared_classes_alone() -> None:
    logits, wanted = noise(4, 3), noise(4, 4, seed=1)
    shared = Shared(own=[2, 0], theirs=[1, 3])
    expected = soft_divergence(
        torch.stack([logits[:, 2], logits[:, 0]], 1),
        torch.stack([wanted[:, 1], wanted[:, 3]], 1),
        Shared(),
    )
    torch.testing.assert_close(soft_divergence(logits, wanted, shared), expected)


def test_outputs_of_other_shapes_are_refused() -> None:
    with pytest.raises(BadInput, match=r"gives \(2, 3, 4, 4\), its teacher \(2, 3, 8, 8\)"):
        soft_divergence(noise(2, 3, 4, 4), noise(2, 3, 8, 8), Shared())
    with pytest.raises(BadInput, match=r"gives \(2, 5, 3\), its teacher \(2, 6, 3\)"):
        focused_divergence(noise(2, 5, 3), noise(2, 5, 4), noise(2, 6, 3), noise(2, 6, 4))
    with pytest.raises(BadInput, match=r"gives \(2, 5, 4\), its teacher \(2, 5, 5\)"):
        focused_divergence(noise(2, 5, 3), noise(2, 5, 4), noise(2, 5, 3), noise(2, 5, 5))


# ---- detections


def test_detections_worked_by_hand() -> None:
    # An object that both see and the student doubts, and background that both agree on.
    logits = torch.tensor([[[0.0], [logit(0.01)]]])
    wanted = torch.tensor([[[logit(0.75)], [logit(0.01)]]])
    codes = torch.tensor([[[0.5, 0, 0, 0], [3.0, 0, 0, 0]]])
    scores = 0.25**2 * math.log(2)
    boxes = 0.75**2 * (0.5**2 / 2) / 4 + 0.01**2 * (3 - 0.5) / 4
    found = focused_divergence(logits, codes, wanted, torch.zeros(1, 2, 4))
    assert found.item() == pytest.approx(scores + boxes, rel=1e-5)
    # Of four such pairs of anchors the mean over what the teacher has found.
    many = [x.repeat(1, 4, 1) for x in (logits, codes, wanted, torch.zeros(1, 2, 4))]
    expected = (scores + boxes) / (0.75**2 + 0.01**2)
    assert focused_divergence(*many).item() == pytest.approx(expected, rel=1e-5)


def test_a_box_counts_by_the_square_of_the_teachers_best_score() -> None:
    codes = torch.ones(1, 2, 4, requires_grad=True)
    wanted = torch.tensor([[[logit(0.9), logit(0.3)], [logit(0.01), logit(0.02)]]])
    focused_divergence(wanted, codes, wanted, torch.zeros(1, 2, 4)).backward()
    assert codes.grad is not None
    object_, background = codes.grad[0, :, 0]
    assert (background / object_).item() == pytest.approx((0.02 / 0.9) ** 2, rel=1e-4)


def test_missing_an_object_and_seeing_one_too_many_count_alike() -> None:
    high, low, codes = torch.tensor([[[2.0]]]), torch.tensor([[[-2.0]]]), torch.zeros(1, 1, 4)
    missed = focused_divergence(low, codes, high, codes)
    assert missed.item() > 0.5
    torch.testing.assert_close(focused_divergence(high, codes, low, codes), missed)


def test_each_image_of_a_batch_has_its_own_count() -> None:
    pieces = [
        noise(3, 50, 4),
        noise(3, 50, 5),
        2 * noise(3, 50, 4, seed=1),
        noise(3, 50, 5, seed=1),
    ]
    pieces[2][0] -= 9  # nothing to be seen there
    alone = [focused_divergence(*(p[i : i + 1] for p in pieces)) for i in range(3)]
    torch.testing.assert_close(focused_divergence(*pieces), torch.stack(alone).mean())


def test_one_against_rest_by_brute_force() -> None:
    logits = noise(7, 5).requires_grad_()
    found = one_against_rest(logits)
    torch.testing.assert_close(found.sigmoid(), logits.softmax(-1))
    for place in range(5):
        rest = torch.cat([logits[:, :place], logits[:, place + 1 :]], 1)
        torch.testing.assert_close(found[:, place], logits[:, place] - rest.logsumexp(1))


def test_one_against_rest_is_finite_where_a_class_is_certain() -> None:
    logits = torch.tensor([[100.0, -100.0, 0.0]]).bfloat16().requires_grad_()
    found = one_against_rest(logits)
    found.sum().backward()
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert found[0, 1].item() == pytest.approx(-200)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


# ---- attention


def test_attention_worked_by_hand() -> None:
    # Two channels and two places: 3, 4 | 0, 0 has the attention 25, 0; 1, 0 | 0, 1 that of 1, 1.
    maps = torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]], [[[1.0, 0.0]], [[0.0, 1.0]]]])
    wanted = torch.tensor([[[[0.0, 5.0]]], [[[2.0, 0.0]]]])
    # Opposite corners of the unit square, then 45 degrees: 2 - 2 cos.
    expected = (2 + (2 - math.sqrt(2))) / 2
    assert attention_distance(maps, wanted).item() == pytest.approx(expected)


def test_attention_knows_neither_order_nor_number_nor_size_of_channels() -> None:
    maps, wanted = noise(2, 6, 3, 4), noise(2, 8, 3, 4, seed=1)
    expected = attention_distance(maps, wanted)
    assert expected > 0.01
    torch.testing.assert_close(attention_distance(maps[:, [3, 0, 5, 1, 2, 4]], wanted), expected)
    split = torch.cat([0.6 * maps, 0.8 * maps], 1)
    torch.testing.assert_close(attention_distance(split, wanted), expected)
    torch.testing.assert_close(attention_distance(-7 * maps, wanted), expected)
    torch.testing.assert_close(attention_distance(wanted, maps), expected)


def test_attention_of_dead_maps_has_finite_gradients() -> None:
    maps = torch.zeros(2, 3, 4, 4, requires_grad=True)
    distance = attention_distance(F.relu(maps), noise(2, 3, 4, 4))
    distance.backward()
    assert distance.item() == pytest.approx(1)
    assert maps.grad is not None
    assert maps.grad.isfinite().all()


def test_large_maps_in_half_precision_do_not_overflow() -> None:
    maps = (1000 * noise(2, 3, 4, 4)).half()
    assert attention_distance(maps, maps).item() == 0


def test_centred_logits_are_those_of_the_root_of_the_product_with_a_gradient_everywhere() -> None:
    logits = torch.tensor([[[0.5, -3.0]], [[2.0, -9.0]]], dtype=torch.float64)
    centre = torch.tensor([[[1.5]], [[-4.0]]], dtype=torch.float64)
    scores = (logits.sigmoid() * centre.sigmoid()).sqrt()
    # In single precision both sigmoids of -60 multiply to 0, whose root has no derivative.
    torch.testing.assert_close(
        centred_logits(logits, centre), scores.logit().float(), rtol=1e-5, atol=1e-6
    )
    far = torch.full((1, 4, 2), -60.0, requires_grad=True)
    found = centred_logits(far, torch.full((1, 4, 1), -60.0))
    torch.testing.assert_close(found, torch.full((1, 4, 2), -60.0))
    found.sum().backward()
    torch.testing.assert_close(far.grad, torch.full((1, 4, 2), 0.5))


@pytest.mark.parametrize("kind", [Fcos, TorchvisionFcos])
def test_class_maps_of_a_detector_are_the_logits_of_its_scores(kind: type[Detector]) -> None:
    raw = {"cls_logits": noise(2, 9, 3), "bbox_ctrness": noise(2, 9, 1, seed=1)}
    scores = (raw["cls_logits"].sigmoid() * raw["bbox_ctrness"].sigmoid()).sqrt()
    found = object.__new__(kind).class_maps(raw)
    torch.testing.assert_close(found, scores.logit().transpose(1, 2), rtol=1e-4, atol=1e-5)
