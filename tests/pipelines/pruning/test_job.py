"""How a pruning run ends: its lines, and what it fails by."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from regrow.errors import CheckFailed
from regrow.metrics.budget import Budget, Verdict
from regrow.pipelines.pruning.job import Job
from regrow.prune.state import Step
from regrow.training.fit import Fit

FIT = Fit(epochs=9, devices=1)
STEP = Step(1, 1_000, 100, 0.0, None, 0.75, True, {}, {}, 0.0)
REPORT: Any = SimpleNamespace(
    figures={
        "before": {"score": 0.5, "params": 200, "macs": 4_000},
        "after": {"score": 0.75, "params": 100, "macs": 1_000},
    }
)


def job(run: Path, **changes: Any) -> Job:
    made: Any = dict.fromkeys(Job.__dataclass_fields__)
    return Job(**made | {"run": run, "budget": Budget(0.1)} | changes)


def ended(**changes: Any) -> Any:
    whole = {
        "stopped": "target",
        "steps": [STEP],
        "baseline": 0.8,
        "after": SimpleNamespace(name="accuracy"),
        "verdict": Verdict(True, (-0.05, 0.0), 40),
    }
    return SimpleNamespace(**whole | changes)


def test_the_table_and_the_verdict_are_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job(tmp_path).conclude(ended(), REPORT, None)
    *table, verdict = capsys.readouterr().out.splitlines()
    assert verdict == "The budget is met."
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in table]
    assert ["accuracy", "0.5", "0.75", "+25.00 points"] in rows
    assert ["parameters", "200", "100", "-50.0 %"] in rows


@pytest.mark.parametrize(
    ("changes", "unlike", "said"),
    [
        ({}, "a.ckpt: not the network", "^a.ckpt: not the network$"),
        (
            {"stopped": "exhausted"}, None,
            r"^The target was not reached: .* The budget is met\. See .*report\.md$",
        ),
        (
            {"verdict": Verdict(False, (-0.4, -0.2), 40)}, None,
            r"^the budget of 0\.1 is broken on 40 test images: the score changed by "
            r"\(-0\.4, -0\.2\); see .*report\.md$",
        ),
    ],
)  # fmt: skip
def test_a_run_that_ends_otherwise_fails_and_says_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict, unlike: str, said: str
) -> None:
    with pytest.raises(CheckFailed, match=said):
        job(tmp_path).conclude(ended(**changes), REPORT, unlike)
    assert "+25.00 points" in capsys.readouterr().out


def test_a_network_is_trained_for_some_epochs_or_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def train(*args: Any, **options: Any) -> None:
        calls.append((args, options))

    made = job(
        tmp_path, train=train, inputs=SimpleNamespace(data="data"), recovery=FIT, seed=3,
        optimization="adamw", penalties=["p"],
    )  # fmt: skip
    assert made.trained(0) is None
    recover = made.trained(1)
    assert recover is not None
    work: Any = SimpleNamespace()
    recover(work, 4)
    assert work.optimization == "adamw"
    ((args, options),) = calls
    assert args == (work, "data", replace(FIT, epochs=1), tmp_path)
    state = tmp_path / "recovery" / "4"
    assert options == {"seed": 3, "round_": 4, "penalties": ["p"], "state": state}
    assert capsys.readouterr().out == "step 4: training, 1 epoch\n"
