"""The gate decides by statistics, for the old classes together and each new one alone."""

import math
from collections.abc import Sequence

import pytest
import torch

from regrow.errors import BadInput
from regrow.incremental.gating.gate import Gate, changes, judge
from regrow.metrics.evidence import BoxEvidence, ConfusionEvidence, CorrectEvidence, Evidence
from regrow.metrics.exact_test import low_end
from regrow.training.evaluation import Evaluation

NAN = math.nan


def evaluation(evidence: Evidence, per_class: dict[str, float]) -> Evaluation:
    return Evaluation("accuracy", 0.5, per_class, {}, evidence, evidence.num_images)


def labelled(*classes: tuple[str, Sequence[bool]]) -> Evaluation:
    """Return what a classifier gave that has some images of each class right, one flag an image."""
    evidence, per_class = CorrectEvidence(), {}
    for index, (name, flags) in enumerate(classes):
        right = torch.tensor(flags, dtype=torch.bool)
        labels = torch.full((len(right),), index)
        taken = labels.where(right, (labels + 1) % 9)
        evidence.update(torch.nn.functional.one_hot(taken, 9).float(), labels)
        per_class[name] = float(right.float().mean()) if len(right) else NAN
    return evaluation(evidence, per_class)


def right(count: int, total: int) -> list[bool]:
    return [True] * count + [False] * (total - count)


# Class by class.


def test_classes_are_kept_gained_forgotten_or_undecided_by_their_own_images() -> None:
    before = labelled(
        ("kept", right(29, 30)),
        ("gained", right(10, 20)),
        ("forgotten", right(19, 20)),
        ("unsure", right(4, 5)),
        ("new", right(0, 5)),
    )
    after = labelled(
        ("kept", right(29, 30)),
        ("gained", right(15, 20)),
        ("forgotten", right(11, 20)),
        ("unsure", right(5, 5)),
        ("new", right(4, 5)),
    )
    known = ["unsure", "forgotten", "gained", "kept"]
    found = changes(before, after, known, Gate(margin=0.1, confidence=0.9))
    assert list(found) == ["kept", "gained", "forgotten", "unsure", "new"]
    assert {name: c.fate for name, c in found.items() if c.fate != name} == {"unsure": "undecided"}
    assert (found["gained"].before, found["gained"].after) == (0.5, 0.75)
    # Of its 20 images 8 are lost and none gained.
    wanted = (low_end(8, 0, 20, 0.9), -low_end(0, 8, 20, 0.9))
    assert found["forgotten"].interval == wanted
    assert found["new"].before is None
    assert found["new"].interval is None
    assert found["new"].after == pytest.approx(0.8)


def test_a_class_is_kept_as_far_as_the_margin_says() -> None:
    before = after = labelled(("a", right(20, 20)))
    low = low_end(0, 0, 20, 0.95)
    fates = [changes(before, after, ["a"], Gate(margin=m))["a"].fate for m in (-low, -low - 1e-6)]
    assert fates == ["kept", "undecided"]


def test_a_class_that_no_image_shows_is_not_measured() -> None:
    pair = [labelled(("a", right(9, 10)), ("absent", []))] * 2
    change = changes(*pair, ["a", "absent"], Gate())["absent"]
    assert (change.fate, change.interval) == ("unmeasured", None)
    assert math.isnan(change.before or 0)


def boxed(num_images: int) -> Evaluation:
    """Return what a detector gave that finds the one class there is, and names another once."""
    evidence = BoxEvidence(2)
    box, first = torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([0])
    for number in range(num_images):
        stray = torch.tensor([1 if number == 0 else 0])
        found = {
            "boxes": torch.cat([box, box + 50]),
            "scores": torch.tensor([0.9, 0.1]),
            "labels": torch.cat([first, stray]),
        }
        evidence.update([found], [{"boxes": box, "labels": first}])
    return evaluation(evidence, {"a": 1.0, "absent": NAN})


def painted(num_images: int) -> Evaluation:
    evidence = ConfusionEvidence(2)
    truth = torch.zeros(num_images, 4, 4, dtype=torch.long)
    evidence.update(truth, truth)
    return evaluation(evidence, {"a": 1.0, "absent": NAN})


@pytest.mark.parametrize("made", [boxed, painted])
def test_many_images_decide_nothing_of_a_class_that_none_shows(made) -> None:
    pair = [made(400)] * 2
    found = changes(*pair, ["a", "absent"], Gate(margin=0.02))
    assert (found["a"].fate, found["absent"].fate) == ("kept", "unmeasured")
    assert found["absent"].interval is None
    assert judge(*pair, ["a", "absent"], Gate(margin=0.02)).is_passed
    decision = judge(*pair, ["absent"], Gate(margin=0.02))
    assert decision.verdict is None
    assert not decision.is_passed


# The decision.


def test_the_gate_is_open_where_old_classes_are_kept_and_new_ones_reach_the_floor() -> None:
    before = labelled(("a", right(19, 20)), ("b", right(19, 20)), ("new", right(0, 10)))
    after = labelled(("a", right(19, 20)), ("b", right(19, 20)), ("new", right(5, 10)))
    decision = judge(before, after, ["a", "b"], Gate(margin=0.1, floor=0.5))
    assert decision.is_passed
    assert decision.reasons == []
    assert decision.verdict is not None
    # The images of the new class do not count.
    assert decision.verdict.num_images == 40
    ends = low_end(0, 0, 40, 0.95), -low_end(0, 0, 40, 0.95)
    assert decision.verdict.interval == ends


def test_what_is_forgotten_shuts_the_gate_though_a_new_class_makes_up_for_it() -> None:
    before = labelled(("a", right(40, 40)), ("new", right(0, 40)))
    after = labelled(("a", right(30, 40)), ("new", right(40, 40)))
    decision = judge(before, after, ["a"], Gate(margin=0.01))
    assert not decision.is_passed
    (reason,) = decision.reasons
    low, high = low_end(10, 0, 40, 0.95), -low_end(0, 10, 40, 0.95)
    assert reason == (
        f"accuracy over the old classes changed by {100 * low:+.2f} to {100 * high:+.2f} points "
        "on 40 old images, which is worse than the margin of 1"
    )
    assert decision.verdict is not None
    assert decision.verdict.is_met is False


def test_an_undecided_gate_is_shut_and_says_how_many_images_would_decide() -> None:
    pair = [labelled(("a", right(9, 10)))] * 2
    decision = judge(*pair, ["a"], Gate(margin=0.1))
    (reason,) = decision.reasons
    assert decision.verdict is not None
    assert decision.verdict.is_met == "undecided"
    # The rule of three: of no change about 3 / 0.1 images.
    assert decision.verdict.num_needed == pytest.approx(30, rel=0.15)
    needed = decision.verdict.num_needed
    assert "points on 10 old images, which does not decide about the margin of 10; " in reason
    assert reason.endswith(f"; about {needed} would decide")
    # So many do.
    many = [labelled(("a", right(needed or 0, needed or 0)))] * 2
    assert judge(*many, ["a"], Gate(margin=0.1)).is_passed


def test_the_gate_is_shut_where_no_image_shows_an_old_class() -> None:
    pair = [labelled(("a", []), ("b", []), ("new", right(9, 10)))] * 2
    decision = judge(*pair, ["a", "b"], Gate(margin=1))
    assert (decision.is_passed, decision.verdict) == (False, None)
    assert decision.reasons == [
        "accuracy over the old classes cannot be measured: no old image shows one"
    ]


def test_each_new_class_must_reach_the_floor() -> None:
    after = labelled(
        ("low", right(49, 100)), ("enough", right(5, 10)), ("absent", []), ("old", right(0, 10))
    )
    decision = judge(after, after, ["old"], Gate(margin=1, floor=0.5))
    assert decision.reasons == [
        "low: accuracy 0.4900 is below the floor of 0.5",
        "absent: no image shows it, so it cannot be said to reach the floor",
    ]
    assert not decision.is_passed


def test_without_an_old_network_the_floor_decides() -> None:
    after = labelled(("a", right(9, 10)), ("b", right(4, 10)))
    decision = judge(None, after, [], Gate(floor=0.4))
    assert (decision.is_passed, decision.verdict) == (True, None)
    assert judge(None, after, [], Gate(floor=0.5)).reasons == [
        "b: accuracy 0.4000 is below the floor of 0.5"
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"margin": -0.1}, r"gate\.margin is -0\.1, it must lie in \[0, 1\]"),
        ({"margin": NAN}, r"gate\.margin is nan"),
        ({"floor": 1.1}, r"gate\.floor is 1\.1, it must lie in \[0, 1\]"),
        ({"confidence": 0.4}, r"gate\.confidence is 0\.4, it must lie in \[0\.5, 1\)"),
        ({"confidence": 1}, r"gate\.confidence is 1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Gate(**values)
