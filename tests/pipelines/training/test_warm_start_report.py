"""The report of a warm start claims of the old classes what was measured, and no more."""

import json
import math
from pathlib import Path

import torch

from regrow.incremental.gating.ages import Ages
from regrow.incremental.gating.assessment import assessment_of
from regrow.incremental.gating.gate import Decision, Gate
from regrow.incremental.warm_start import WarmStart
from regrow.metrics.evidence import CorrectEvidence
from regrow.pipelines.training.warm_start_report import describe_outcome
from regrow.reporting.report import Report
from regrow.training.evaluation import Evaluation


def described(run: Path, *labels: int) -> tuple[Decision, str]:
    """Describe a network of the old classes a and b and the new one c, right of each image."""
    evidence, truth = CorrectEvidence(), torch.tensor(labels)
    evidence.update(torch.nn.functional.one_hot(truth, 3).float(), truth)
    scores = {name: 1.0 if place in labels else math.nan for place, name in enumerate("abc")}
    after = Evaluation("accuracy", 1.0, scores, {}, evidence, len(labels))
    start = WarmStart("old.ckpt", "", {}, [], {"a": "a", "b": "b"}, None, 0.5, 0)
    report = Report(run, title="Warm start", command="", task="labels", classes="abc")
    ages = Ages("test", ("old",) * len(labels))
    is_shown = any(label < 2 for label in labels)
    chosen = (ages, "old") if is_shown else None
    outcome = assessment_of([ages], chosen, {"test": after}, {"test": after})
    decision = describe_outcome(report, outcome, start, Gate())
    report.write()
    return decision, (run / "report.md").read_text()


def test_no_old_image_measures_nothing_of_the_old_classes(tmp_path: Path) -> None:
    decision, page = described(tmp_path, 2, 2, 2)
    assert not decision.is_passed
    assert "Of 3 classes on old test images: 2 unmeasured, 1 new." in page
    assert (
        "Over the old classes accuracy cannot be measured: no old test or validation image of"
        in page
    )
    assert "-100.00" not in page
    figures = json.loads((tmp_path / "report.json").read_text())
    assert (figures["judged"]["images"], figures["judged"]["over_old_classes"]) == ("test", None)
    nothing = {"before": None, "after": None, "change": None, "interval": None, "num_images": 0}
    nothing["new_images"] = None
    assert figures["per_class"]["a"] == {"fate": "unmeasured", **nothing}


def test_one_old_image_measures_little(tmp_path: Path) -> None:
    decision, page = described(tmp_path, 0, 2)
    assert decision.verdict is not None
    assert decision.verdict.num_images == 1
    assert "1 undecided, 1 unmeasured, 1 new." in page
    assert "accuracy changed by -100.00 points to +100.00 points on 1 old test images" in page
