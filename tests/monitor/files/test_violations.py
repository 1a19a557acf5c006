"""Violations stand under both names."""

import json
from pathlib import Path

import pytest

from regrow.errors import BadInput
from regrow.monitor.files.violations import (
    NAMES,
    Violation,
    read_violations,
    write_clarify_violations,
    write_violations,
)

# The example of the developer guide.
EXAMPLE = (
    '{"violations":[{"feature_name":"brightness","constraint_check_type":"baseline_drift_check",'
    '"description":"Baseline drift distance: 0.31 exceeds threshold: 0.1"}]}'
)


def test_both_names_hold_the_guides_example(tmp_path: Path) -> None:
    words = "Baseline drift distance: 0.31 exceeds threshold: 0.1"
    write_violations(tmp_path, [Violation("brightness", "baseline_drift_check", words)])
    assert len(NAMES) == 2
    for name in NAMES:
        assert json.loads((tmp_path / name).read_text()) == json.loads(EXAMPLE)


@pytest.mark.parametrize("name", NAMES)
def test_either_name_is_read(tmp_path: Path, name: str) -> None:
    made = [Violation("a", "b", "c", True), Violation("a", "missing_column_check", "d")]
    write_violations(tmp_path, made)
    next(tmp_path / other for other in NAMES if other != name).unlink()
    assert read_violations(tmp_path) == made


def test_what_only_describes_says_so(tmp_path: Path) -> None:
    write_violations(tmp_path, [Violation("a", "b", "c", True)])
    assert "c (descriptive: " in (tmp_path / NAMES[0]).read_text()


@pytest.mark.parametrize("text", ["[]", '{"violations": [3]}', '{"violations": null}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / NAMES[0]).write_text(text)
    with pytest.raises(BadInput, match="holds no list of violations"):
        read_violations(tmp_path)


def test_those_of_clarify_lie_in_their_own_folder_under_both_names(tmp_path: Path) -> None:
    example = (  # of the developer guide
        '{"version":"1.0","violations":[{"facet":"Age","facet_value":"40","metric_name":"CI",'
        '"constraint_check_type":"bias_drift_check","description":"Value 0.075 does not meet the '
        'constraint requirement"}]}'
    )
    write_violations(tmp_path, [])
    write_clarify_violations(tmp_path, json.loads(example)["violations"])
    for name in NAMES:
        assert json.loads((tmp_path / "clarify" / name).read_text()) == json.loads(example)
        assert json.loads((tmp_path / name).read_text()) == {"violations": []}
