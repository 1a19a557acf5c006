"""Metrics are one object a line, with the dimensions that SageMaker's have."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regrow.monitor.files.cloudwatch import CLOUDWATCH, Metric, hour_metrics, write_metrics

TIME = datetime(2026, 11, 30, 7, 5, tzinfo=UTC)
REPORT: dict[str, Any] = {
    "distances": {"brightness": 0.25},
    "counts": {"num_pictures": 5},
    "alarms": [{"kind": "warn"}, {"kind": "act"}, {"kind": "warn"}],
    "quality": None,
}
QUALITY = {"name": "accuracy", "value": 0.75}
# The examples of the developer guide.
ANALYSIS = json.loads(
    '{"version":"1.0","post_training_bias_metrics":{"label":"label","label_value_or_threshold":"1",'
    '"facets":{"camera":[{"value_or_threshold":"3","metrics":[{"name":"DI","description":'
    '"Disparate Impact (DI)","value":0.71}]}]}},"pre_training_bias_metrics":{"label":"label",'
    '"label_value_or_threshold":"1","facets":{"camera":[{"value_or_threshold":"3","metrics":'
    '[{"name":"CI","description":"Class Imbalance (CI)","value":0.2}]}]}},"explanations":'
    '{"kernel_shap":{"label0":{"global_shap_values":{"cell_r1c1":0.12,"cell_r1c2":0.07},'
    '"expected_value":0.5}}}}'
)


def test_metrics_are_sagemakers_lines(tmp_path: Path) -> None:
    values = {"drift_a": 0.31, "drift_b": math.nan, "drift_c": -math.inf}
    metrics = [Metric(name, value) for name, value in values.items()]
    write_metrics(tmp_path, metrics, TIME, {"Endpoint": "road", "MonitoringSchedule": "hourly"})
    lines = (tmp_path / CLOUDWATCH).read_text().splitlines()
    example = (
        '{"MetricName":"drift_a","Timestamp":"2026-11-30T07:05:00Z","Dimensions":'
        '[{"Name":"Endpoint","Value":"road"},{"Name":"MonitoringSchedule","Value":"hourly"}],'
        '"Value":0.31,"Unit":"None"}'
    )
    assert [json.loads(line) for line in lines][0] == json.loads(example)
    assert json.loads(lines[1])["Value"] == -2.348543e108
    assert len(lines) == 2


def test_an_hour_has_distances_counts_and_quality() -> None:
    found = {own.name: own.value for own in hour_metrics(REPORT | {"quality": QUALITY}, {})}
    assert found == {
        "feature_baseline_drift_brightness": 0.25, "pictures": 5, "alarms_data": 0,
        "alarms_warn": 2, "alarms_act": 1, "accuracy": 0.75,
    }  # fmt: skip
    for quality in (None, QUALITY | {"value": None}):
        names = [own.name for own in hour_metrics(REPORT | {"quality": quality}, {})]
        assert names == [*found][:-1]


def test_bias_and_attributions_have_the_dimensions_of_clarify() -> None:
    found = {own.name: own for own in hour_metrics(REPORT, ANALYSIS) if own.dimensions}
    values = {
        "bias_metric_CI": 0.2, "bias_metric_DI": 0.71, "feature_cell_r1c1": 0.12,
        "feature_cell_r1c2": 0.07, "ExpectedValue": 0.5,
    }  # fmt: skip
    assert {name: own.value for name, own in found.items()} == values
    camera = {"Label": "label", "LabelValue": "1", "Facet": "camera", "FacetValue": "3"}
    assert found["bias_metric_CI"].dimensions == {"BiasStage": "Pre-training", **camera}
    assert found["bias_metric_DI"].dimensions == {"BiasStage": "Post-Training", **camera}
    shap = {"ExplainabilityMethod": "KernelShap", "Label": "label0"}
    assert found["feature_cell_r1c2"].dimensions == shap | {"ValueType": "GlobalShapValues"}
    assert found["ExpectedValue"].dimensions == shap | {"ValueType": "ExpectedValue"}


def test_an_infinite_metric_of_an_empty_facet_is_written(tmp_path: Path) -> None:
    metric = {"name": "DI", "description": "", "value": "Infinity"}
    row = {"value_or_threshold": "", "metrics": [metric]}
    about = {"label": "class", "label_value_or_threshold": "dog", "facets": {"camera": [row]}}
    metrics = [*hour_metrics(REPORT, {"post_training_bias_metrics": about})][-1:]
    write_metrics(tmp_path, metrics, TIME, {})
    line = json.loads((tmp_path / CLOUDWATCH).read_text())
    assert line["Value"] == 2.348543e108
    assert line["Dimensions"][-1] == {"Name": "FacetValue", "Value": "(empty)"}
