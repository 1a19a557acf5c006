"""statistics.json has the form of SageMaker's, whose example is written again to the digit."""

import json
from typing import Any

import numpy as np

from regrow.monitor.files.statistics import statistics
from regrow.monitor.summary import Summary

# The example of the developer guide's schema, with the values of its sketch.
EXAMPLE = json.loads(
    '{"version":0,"dataset":{"item_count":4},"features":[{"name":"brightness","inferred_type":'
    '"Fractional","numerical_statistics":{"common":{"num_present":4,"num_missing":0},"mean":0.4375,'
    '"sum":1.75,"std_dev":0.087,"min":0.31,"max":0.55,"distribution":{"kll":{"buckets":['
    '{"lower_bound":0.31,"upper_bound":0.334,"count":1},'
    '{"lower_bound":0.334,"upper_bound":0.358,"count":0},'
    '{"lower_bound":0.358,"upper_bound":0.382,"count":0},'
    '{"lower_bound":0.382,"upper_bound":0.406,"count":0},'
    '{"lower_bound":0.406,"upper_bound":0.43,"count":1},'
    '{"lower_bound":0.43,"upper_bound":0.454,"count":0},'
    '{"lower_bound":0.454,"upper_bound":0.478,"count":1},'
    '{"lower_bound":0.478,"upper_bound":0.502,"count":0},'
    '{"lower_bound":0.502,"upper_bound":0.526,"count":0},'
    '{"lower_bound":0.526,"upper_bound":0.55,"count":1}],'
    '"sketch":{"parameters":{"c":0.64,"k":2048.0},"data":[[0.31,0.42,0.47,0.55]]}}}}},'
    '{"name":"predicted_class","inferred_type":"String","string_statistics":{"common":'
    '{"num_present":4,"num_missing":0},"distinct_count":2,"distribution":{"categorical":{"buckets":'
    '[{"value":"car","count":3},{"value":"dog","count":1}]}}}}]}'
)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_rounded(own) for own in value]
    return round(value, 3) if _is_float(value) else value


def _is_float(value: Any) -> bool:
    return isinstance(value, float)


def test_the_example_is_written_again() -> None:
    brightness = [0.47, 0.31, 0.55, 0.42]
    rows = [
        {"brightness": value, "predicted_class": name}
        for value, name in zip(brightness, ["car", "dog", "car", "car"], strict=True)
    ]
    made = statistics(Summary.of(rows))
    mean = made["features"][0]["numerical_statistics"].pop("mean")
    example = json.loads(json.dumps(EXAMPLE))
    assert mean == example["features"][0]["numerical_statistics"].pop("mean")
    assert _rounded(made) == example


def test_missing_values_and_those_of_another_type_are_told() -> None:
    made = statistics(Summary.of([{"a": 1.0}, {"a": "x"}, {"a": None}, {"a": 2.0}]))
    (feature,) = made["features"]
    assert feature["inferred_type"] == "Integral"
    assert feature["numerical_statistics"]["common"] == {"num_present": 2, "num_missing": 2}


def test_a_feature_without_values_has_no_moments() -> None:
    (feature,) = statistics(Summary.of([{"a": None}]))["features"]
    common = {"num_present": 0, "num_missing": 1}
    assert feature == {
        "name": "a",
        "inferred_type": "Unknown",
        "numerical_statistics": {"common": common},
    }


def test_the_file_is_json_whatever_the_numbers() -> None:
    text = json.dumps(statistics(Summary.of([{"a": 1.7e308}, {"a": 1.7e308}])), allow_nan=False)
    assert "Infinity" not in text


def test_many_values_make_a_file_of_bounded_size() -> None:
    values = np.random.default_rng(0).standard_normal(20_000)
    made = statistics(Summary.of([{"a": float(value)} for value in values]))
    data = made["features"][0]["numerical_statistics"]["distribution"]["kll"]["sketch"]["data"]
    assert sum(len(level) << place for place, level in enumerate(data)) == 20_000
    assert len(json.dumps(made)) < 500_000
