"""What a person may edit is read, in SageMaker's form too; nonsense is one line that names it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from regrow.errors import BadInput
from regrow.monitor.bias.constraints import POST, PRE, BiasConstraints
from regrow.monitor.bias.gaps import GAP

CLASSES = ("cat", "dog")


def _post(*metrics: dict[str, Any], **own: Any) -> dict[str, Any]:
    row = {"value_or_threshold": 3, "metrics": list(metrics)}
    return {
        "label": "class", "label_value_or_threshold": "cat", "facets": {"camera": [row]}
    } | own  # fmt: skip


def _read(folder: Path, parts: dict[str, Any]) -> BiasConstraints:
    (folder / "analysis.json").write_text(json.dumps({"version": "1.0", **parts}))
    return BiasConstraints.read(folder, CLASSES)


def test_a_file_of_sagemakers_is_read_by_its_own_rule(tmp_path: Path) -> None:
    found = _read(
        tmp_path,
        {
            POST: _post(
                {"name": "AD", "description": "Accuracy Difference (AD)", "value": -0.03},
                {"name": "DPPL", "value": 0.2},
                {"name": "DI", "value": "Infinity"},
                {"name": "TE", "value": None, "error": "no"},
            ),
            PRE: {"facets": {"camera": [{"value_or_threshold": "3", "metrics": [
                {"name": "CI", "value": 0.4}]}]}},
            "explanations": {"kernel_shap": {}},
        },
    )  # fmt: skip
    assert (found.label, found.gap, found.edges) == ("cat", GAP, {})
    values = {key[2]: value for key, value in found.values.items()}
    assert values == {"AD": -0.03, "DPPL": 0.2, "DI": math.inf, "CI": 0.4}
    assert found.limits == {("camera", "3", "AD"): 0.03, ("camera", "3", "DPPL"): 0.2}


def test_a_limit_that_was_edited_counts_more_than_the_value(tmp_path: Path) -> None:
    post = _post(
        {"name": "AD", "value": 0.03, "limit": 0.11}, {"name": "DPPL", "limit": 0.5}, gap=0.2
    )
    found = _read(tmp_path, {POST: post, "facet_edges": {"brightness": [0.25, 1]}})
    assert found.limits == {("camera", "3", "AD"): 0.11, ("camera", "3", "DPPL"): 0.5}
    assert (found.gap, found.edges) == (0.2, {"brightness": (0.25, 1.0)})


def test_without_a_file_the_last_class_is_the_label(tmp_path: Path) -> None:
    assert BiasConstraints.read(tmp_path, CLASSES) == BiasConstraints("dog")


HUGE = int("9" * 400)


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({POST: 3}, "post_training_bias_metrics is '3', it must be an object"),
        ({POST: {"label_value_or_threshold": "cow"}}, "'cow', it must be a class: cat, dog"),
        ({POST: {"label_value_or_threshold": []}}, "it must be a class"),
        ({POST: {"facets": []}}, r"facets is '\[\]', it must be an object of 64 at most"),
        ({POST: {"facets": {str(n): [] for n in range(99)}}}, "it must be an object of 64"),
        ({POST: {"facets": {"camera": 3}}}, "camera: '3' must be a list of 64 at most"),
        ({POST: {"facets": {"camera": [3]}}}, "camera: a row without value_or_threshold"),
        ({POST: {"facets": {"camera": [{"metrics": []}]}}}, "without value_or_threshold"),
        ({POST: _post({"value": 3})}, "camera: a metric without a name"),
        ({POST: _post({"name": "AD", "value": "x"})}, "AD: value is 'x', it must be a number"),
        ({POST: _post({"name": "AD", "value": HUGE})}, "AD: value is '9999"),
        ({POST: _post({"name": "AD", "value": True})}, "AD: value is 'True'"),
        ({POST: _post({"name": "AD", "limit": 2})}, r"camera=3: AD: limit is '2', it must lie in"),
        ({POST: _post({"name": "AD", "limit": None, "value": 1})}, "limit is 'None'"),
        ({POST: _post(gap=-1)}, r"gap is '-1', it must lie in \[0, 1\]"),
        ({"facet_edges": {"camera": [0, 1]}}, "'camera' is none of brightness, object_size"),
        ({"facet_edges": {"brightness": [1, 0]}}, "brightness is .* must be two rising numbers"),
        ({"facet_edges": {"brightness": [0, HUGE]}}, "must be two rising numbers"),
        ({"facet_edges": {"brightness": 3}}, "must be two rising numbers"),
    ],
)
def test_nonsense_is_one_line(tmp_path: Path, parts: dict[str, Any], match: str) -> None:
    with pytest.raises(BadInput, match=match) as caught:
        _read(tmp_path, parts)
    assert str(caught.value).startswith(f"{tmp_path / 'analysis.json'}: ")
    assert "\n" not in str(caught.value)
