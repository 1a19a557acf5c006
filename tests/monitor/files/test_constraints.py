"""constraints.json is read in its old and new spellings; nonsense is refused by its key."""

import json
from pathlib import Path
from typing import Any

import pytest

from regrow.errors import BadInput
from regrow.monitor.files.constraints import Comparison, Constraint, Constraints
from regrow.monitor.summary import Summary

# The example of the developer guide's schema, with its newer keys.
EXAMPLE = (
    '{"version":0,"features":[{"name":"brightness","inferred_type":"Fractional","completeness":1.0,'
    '"num_constraints":{"is_non_negative":true},"monitoringConfigOverrides":'
    '{"distribution_constraints":{"comparison_threshold":0.2}}},{"name":"predicted_class",'
    '"inferred_type":"String","completeness":1.0,"string_constraints":{"domains":["car","dog"]}}],'
    '"monitoring_config":{"evaluate_constraints":"Enabled","emit_metrics":"Enabled",'
    '"datatype_check_threshold":0.1,"domain_content_threshold":0.1,"distribution_constraints":'
    '{"perform_comparison":"Enabled","comparison_threshold":0.1,"comparison_method":"Robust",'
    '"categorical_comparison_threshold":0.1,"categorical_drift_method":"LInfinity"}}}'
)


def _read(folder: Path, content: Any) -> Constraints:
    file = folder / "constraints.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return Constraints.read(file)


def test_the_example_is_read(tmp_path: Path) -> None:
    assert _read(tmp_path, EXAMPLE) == Constraints(
        (
            Constraint("brightness", "Fractional", 1.0, True, comparison=Comparison(threshold=0.2)),
            Constraint("predicted_class", "String", 1.0, domain=("car", "dog")),
        ),
        type_share=0.1,
        domain_share=0.1,
    )


def test_the_old_spellings_are_read(tmp_path: Path) -> None:
    content = {
        "version": 0.0,
        "features": [
            {
                "name": "site",
                "inferred_type": "String",
                "completeness": 1.0,
                "string_constraints": {
                    "domains": ["a"],
                    "monitoring_config_overrides": {
                        "min_domain_mass": 0.7,
                        "distribution_constraints": {"enable_comparisons": False},
                    },
                },
            }
        ],
        "monitoring_config": {"distribution_constraints": {"enable_comparisons": True}},
    }
    made = _read(tmp_path, content)
    assert made.comparison.is_on
    assert made.features == (
        Constraint(
            "site", "String", 1.0, domain=("a",), domain_share=0.7, comparison=Comparison(False)
        ),
    )


def test_what_is_suggested_is_written_and_read_back(tmp_path: Path) -> None:
    rows = [
        {"width": w, "height": 10.0, "blank": b, "class": c, "box_score": s}
        for w, b, c, s in ((20.0, 0.0, "a", None), (30.0, 0.0, "b", -0.5), (30.0, 1.0, "a", 0.5))
    ]
    made = Constraints.suggested(
        Summary.of(rows), frozenset({"width", "class", "box_score"}), {"class": ["c"]}
    )
    assert _read(tmp_path, made.to_dict()) == made
    assert made.sides == (5, 60)
    assert made.max_blank == pytest.approx(2 / 3)
    by_name = {own.name: own for own in made.features}
    assert by_name["class"].domain == ("a", "b", "c")
    assert by_name["box_score"].completeness == 0  # some pictures have no box
    assert not by_name["box_score"].is_non_negative
    assert by_name["width"].completeness == 1


NONSENSE = [
    ("[]", "the file is"),
    ("{", "not JSON .*; correct it, or make it again"),
    ({}, "features is None"),
    ({"features": [3]}, "a feature is '3'"),
    ({"features": [{"name": 3}]}, "a feature's name is 3"),
    ({"features": [{"name": "a"}, {"name": "a"}]}, "'a' is there twice"),
    ({"features": [{"name": "a", "inferred_type": "Colour"}]}, "inferred_type is 'Colour'"),
    ({"features": [{"name": "a", "completeness": 3}]}, r"completeness is '3', .* \[0, 1\]"),
    ({"features": [{"name": "a", "completeness": True}]}, "completeness is 'True'"),
    ({"features": [{"name": "a", "completeness": float("nan")}]}, "completeness is 'nan'"),
    ({"features": [{"name": "a", "string_constraints": {"domains": "b"}}]}, "domains is 'b'"),
    ({"features": [{"name": "a", "num_constraints": 1}]}, "a: num_constraints is '1'"),
    (
        {"features": [{"name": "a", "num_constraints": {"is_non_negative": "yes"}}]},
        "a: is_non_negative is 'yes', it must be true or false",
    ),
    ({"features": [], "image_constraints": {"max_sides": 9}}, "image_constraints has 'max_sides'"),
    ({"features": [], "monitoring_config": {"emit_metrics": "Perhaps"}}, "emit_metrics"),
    (
        {
            "features": [],
            "monitoring_config": {"distribution_constraints": {"comparison_method": "KS"}},
        },
        "comparison_method is 'KS', it must be one of Robust, Simple",
    ),
    ({"features": [], "image_constraints": {"min_side": 9, "max_side": 3}}, "min_side 9 is larger"),
]


@pytest.mark.parametrize(("content", "match"), NONSENSE)
def test_nonsense_is_refused_by_its_key(tmp_path: Path, content: Any, match: str) -> None:
    with pytest.raises(BadInput, match=match) as found:
        _read(tmp_path, content)
    assert "constraints.json" in str(found.value)


def test_odd_values_anywhere_are_refused_or_read(tmp_path: Path, mutated_plain: Any) -> None:
    kinds = set()
    for seed in range(300):
        content = mutated_plain(json.loads(EXAMPLE), seed)
        try:
            kinds.add(type(_read(tmp_path, json.dumps(content))))
        except BadInput as error:
            kinds.add(type(error))
    assert kinds == {Constraints, BadInput}
