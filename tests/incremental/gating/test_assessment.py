"""Forgetting is judged on old images alone; what new ones show is gained, and hides nothing."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from regrow.incremental.gating.ages import Ages
from regrow.incremental.gating.assessment import Assessment, assessment_of, part
from regrow.incremental.gating.gate import Decision, Gate
from regrow.incremental.warm_start import WarmStart
from regrow.metrics.evidence import BoxEvidence, ConfusionEvidence, CorrectEvidence, Evidence
from regrow.metrics.exact_test import low_end
from regrow.pipelines.training.warm_start_report import describe_outcome
from regrow.reporting.report import Report
from regrow.training.evaluation import Evaluation

OLD_NAMES = {"a": "a", "b": "b"}


def network(right: Sequence[bool], labels: Sequence[int], names: str = "ab") -> Evaluation:
    """Return what a classifier gave that has some images right, of the classes that are given."""
    evidence, truth = CorrectEvidence(), torch.tensor(labels)
    flags = torch.tensor(right)
    taken = truth.where(flags, (truth + 1) % 9)
    evidence.update(torch.nn.functional.one_hot(taken, 9).float(), truth)
    value = float(flags.float().mean())
    per_class = {n: float(flags[truth == p].float().mean()) for p, n in enumerate(names)}
    return Evaluation("accuracy", value, per_class, {}, evidence, len(labels))


def described(run: Path, outcome: Assessment, gate: Gate = Gate()) -> tuple[Decision, str, dict]:
    start = WarmStart("old.ckpt", "", {}, [], OLD_NAMES, None, 0.5, 0)
    report = Report(run, title="Warm start", command="", task="labels", classes="ab")
    decision = describe_outcome(report, outcome, start, gate)
    report.write()
    figures = json.loads((run / "report.json").read_text())
    return decision, (run / "report.md").read_text(), figures


def test_a_network_wrong_on_every_old_image_has_forgotten_whatever_new_images_say(
    tmp_path: Path,
) -> None:
    # 20 old images that only the old network has right, 80 new ones that only the new one has.
    labels, is_old = [0, 1] * 50, [True] * 20 + [False] * 80
    before, after = network(is_old, labels), network([not flag for flag in is_old], labels)
    ages = Ages("test", tuple("old" if flag else "new" for flag in is_old))
    outcome = assessment_of([ages], (ages, "old"), {"test": before}, {"test": after})
    decision, page, figures = described(tmp_path, outcome)
    assert not decision.is_passed
    assert decision.verdict is not None
    assert decision.verdict.is_met is False
    assert decision.verdict.num_images == 20
    assert decision.verdict.interval == (-1, -low_end(0, 20, 20, 0.95))
    assert "Of 2 classes on old test images: 2 forgotten." in page
    assert "On 80 new test images accuracy went from 0.0000 to 1.0000" in page
    assert figures["judged"]["num_old"] == 20
    assert figures["judged"]["num_new"] == 80
    for name in "ab":
        old = figures["per_class"][name]
        assert (old["fate"], old["before"], old["after"], old["num_images"]) == (
            "forgotten", 1, 0, 10,
        )  # fmt: skip
        new = old["new_images"]
        assert (new["fate"], new["before"], new["after"], new["num_images"]) == ("gained", 0, 1, 40)
        assert new["interval"] == [low_end(0, 40, 40, 0.95), 1]
    assert "| a | 1 | 0 | -100.00 points |" in page


def test_few_old_images_of_a_memory_leave_the_gate_undecided_and_shut(tmp_path: Path) -> None:
    labels = [0] * 4 + [1] * 96
    same = network([True] * 100, labels)
    ages = Ages("test", ("old",) * 4 + ("new",) * 96)
    outcome = assessment_of([ages], (ages, "old"), {"test": same}, {"test": same})
    decision, page, _ = described(tmp_path, outcome, Gate(margin=0.05))
    assert decision.verdict is not None
    assert (decision.verdict.is_met, decision.verdict.num_images) == ("undecided", 4)
    # Of 59 images that lose nothing 0.95^59 < 0.05.
    assert decision.reasons == [
        "accuracy over the old classes changed by -52.71 to +52.71 points on 4 old images, which "
        "does not decide about the margin of 5; about 59 would decide"
    ]
    assert "1 undecided, 1 unmeasured" in page


def test_old_validation_images_stand_in_and_it_is_said(tmp_path: Path) -> None:
    test, val = Ages("test", ("new",) * 6), Ages("val", ("old", "new"))
    found = {"test": network([True] * 6, [0, 1] * 3), "val": network([True, False], [0, 1])}
    before = {"test": network([False] * 6, [0, 1] * 3), "val": network([True, True], [0, 1])}
    outcome = assessment_of([test, val], (val, "old"), before, found)
    assert outcome.old is not None
    assert (outcome.old_split, outcome.old.after.num_images) == ("val", 1)
    _, page, figures = described(tmp_path, outcome)
    assert "No old test image is at hand: old validation images stand in" in page
    assert figures["judged"]["images"] == "validation"
    assert "On 6 new test images" in page


def test_without_old_images_forgetting_is_unmeasured_and_the_gate_shut(tmp_path: Path) -> None:
    ages = Ages("test", ("new", "trained"))
    both = network([True, True], [0, 1])
    outcome = assessment_of([ages], None, {"test": both}, {"test": both})
    decision, page, figures = described(tmp_path, outcome)
    assert decision.reasons == [
        "accuracy over the old classes cannot be measured: no old image shows one"
    ]
    assert "2 unmeasured" in page
    assert "no old test or validation image of them is at hand" in page
    assert "trained on 1 of the test images" in page
    assert figures["judged"]["num_new"] == 1
    assert figures["judged"]["over_old_classes"] is None


def test_relabelled_images_count_as_new_unless_no_other_is_old(tmp_path: Path) -> None:
    ages = Ages("test", ("old", "relabelled", "new"))
    flags = network([True, False, False], [0, 0, 0], "a"), network([True] * 3, [0] * 3, "a")
    outcome = assessment_of([ages], (ages, "old"), {"test": flags[0]}, {"test": flags[1]})
    assert outcome.old is not None
    assert outcome.new is not None
    assert (outcome.old.after.num_images, outcome.new.after.num_images) == (1, 2)
    _, page, _ = described(tmp_path, outcome)
    assert "Of these 1 are old images with another label now." in page
    other = Ages("test", ("relabelled", "relabelled", "new"))
    outcome = assessment_of([other], (other, "relabelled"), {"test": flags[0]}, {"test": flags[1]})
    assert outcome.old is not None
    assert outcome.new is not None
    assert (outcome.old.after.num_images, outcome.new.after.num_images) == (2, 1)
    _, page, _ = described(tmp_path / "other", outcome)
    assert "No old image has the label of then any more" in page


def test_new_classes_are_judged_on_all_images(tmp_path: Path) -> None:
    labels = [0, 1, 2, 2, 2, 2]
    after = network([True] * 5 + [False], labels, "abc")
    ages = Ages("test", ("old", "old", "new", "new", "new", "relabelled"))
    outcome = assessment_of([ages], (ages, "old"), {"test": after}, {"test": after})
    decision, _, figures = described(tmp_path, outcome, Gate(margin=1, floor=0.76))
    assert decision.reasons == ["c: accuracy 0.7500 is below the floor of 0.76"]
    assert figures["per_class"]["c"]["after"] == 0.75
    assert figures["per_class"]["c"]["fate"] == "new"


def masks() -> ConfusionEvidence:
    evidence = ConfusionEvidence(3)
    truth = torch.zeros(4, 2, 2, dtype=torch.long)
    truth[0, 0] = 1
    predicted = truth.clone()
    predicted[3] = 2  # a class that no image shows
    predicted[1, 0, 0] = 1
    evidence.update(predicted, truth)
    return evidence


def boxes() -> BoxEvidence:
    evidence = BoxEvidence(3)
    objects = torch.tensor([[0.0, 0, 9, 9], [20, 20, 29, 29]])
    for number in range(4):
        true = {"boxes": objects, "labels": torch.tensor([0, 1 if number == 0 else 0])}
        found = {**true, "scores": torch.tensor([0.9, 0.8 if number % 3 else 0.1])}
        if number == 3:
            found["labels"] = torch.tensor([2, 2])
        evidence.update([found], [true])
    return evidence


@pytest.mark.parametrize("made", [masks, boxes])
def test_part_of_an_evaluation_is_that_of_its_images_alone(made) -> None:
    evidence: Evidence = made()
    whole = Evaluation("score", 0.5, dict.fromkeys("abc", 0.5), {}, evidence, 4)
    first = part(whole, [True, False, False, False])
    assert (first.num_images, first.value) == (1, 1)
    assert first.per_class["a"] == first.per_class["b"] == 1
    assert math.isnan(first.per_class["c"])
    last = part(whole, [False, False, False, True])
    assert last.per_class["a"] == 0
    assert math.isnan(last.per_class["b"])
    assert part(whole, [False] * 4).num_images == 0
    assert all(math.isnan(value) for value in part(whole, [False] * 4).per_class.values())
