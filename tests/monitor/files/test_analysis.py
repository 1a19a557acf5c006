"""Parts of `analysis.json` are written one by one, and nonsense in it is one line."""

import json
from pathlib import Path

import pytest

from regrow.errors import BadInput
from regrow.monitor.files.analysis import ANALYSIS, read_analysis, write_analysis

# The example of the developer guide.
BIAS = {
    "label": "target",
    "label_value_or_threshold": "1",
    "facets": {
        "feature_2": [
            {
                "value_or_threshold": "1",
                "metrics": [
                    {"name": "DI", "description": "Disparate Impact (DI)", "value": 0.711340206}
                ],
            }
        ]
    },
}
SHAP = {"kernel_shap": {"label0": {"global_shap_values": {"a": 0.02}, "expected_value": 0.5}}}


def test_parts_are_written_one_by_one_and_the_others_stay(tmp_path: Path) -> None:
    write_analysis(tmp_path, {"post_training_bias_metrics": {"label": "old"}})
    write_analysis(tmp_path, {"explanations": SHAP})
    write_analysis(tmp_path, {"post_training_bias_metrics": BIAS})
    parts = {"post_training_bias_metrics": BIAS, "explanations": SHAP}
    assert read_analysis(tmp_path) == parts
    assert json.loads((tmp_path / ANALYSIS).read_text()) == {"version": "1.0", **parts}


def test_no_file_has_no_parts_and_no_parts_make_no_file(tmp_path: Path) -> None:
    write_analysis(tmp_path, {})
    assert read_analysis(tmp_path) == {}
    assert not (tmp_path / ANALYSIS).exists()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[]", r"analysis\.json: the file is '\[\]', it must be an object"),
        ('{"explanations": 3}', r"analysis\.json: explanations is '3', it must be an object"),
        ("{", "not JSON"),
    ],
)
def test_nonsense_is_one_line(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / ANALYSIS).write_text(text)
    with pytest.raises(BadInput, match=match):
        read_analysis(tmp_path)
    with pytest.raises(BadInput, match=match):
        write_analysis(tmp_path, {"explanations": SHAP})
    assert (tmp_path / ANALYSIS).read_text() == text
