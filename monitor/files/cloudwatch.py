"""CloudWatch metrics of an hour, as JSON lines in the folder that SageMaker takes them from.

Source: Amazon SageMaker Developer Guide, "CloudWatch Metrics for Bias Drift Analysis" and
"CloudWatch Metrics for Feature Drift Analysis".
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from regrow.files import write_text
from regrow.monitor.files.times import as_text

CLOUDWATCH = Path("cloudwatch", "cloudwatch_metrics.jsonl")
LARGEST = 2.348543e108  # how SageMaker writes an infinite metric
STAGES = {
    "pre_training_bias_metrics": "Pre-training",
    "post_training_bias_metrics": "Post-Training",
}
NOTHING = "(empty)"  # the value of a facet that is an empty text, which no dimension may be


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Args:
        name: Its name.
        value: Its value.
        dimensions: What tells it from others of its name, besides the endpoint and the schedule.
    """

    name: str
    value: float
    dimensions: Mapping[str, str] = field(default_factory=dict)


def hour_metrics(report: Mapping[str, Any], analysis: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield the metrics of an hour: distances, counts, quality, then those of `analysis.json`.

    Args:
        report: The report of the hour.
        analysis: The parts of its `analysis.json`.
    """
    for name, distance in report["distances"].items():
        yield Metric(f"feature_baseline_drift_{name}", distance)
    yield Metric("pictures", float(report["counts"]["num_pictures"]))
    for kind in ("data", "warn", "act"):
        count = sum(alarm["kind"] == kind for alarm in report["alarms"])
        yield Metric(f"alarms_{kind}", float(count))
    quality = report["quality"]
    if quality is not None and quality["value"] is not None:
        yield Metric(quality["name"], quality["value"])
    for part, stage in STAGES.items():
        yield from _of_bias(analysis.get(part, {}), stage)
    yield from _of_attributions(analysis.get("explanations", {}))


def _of_bias(part: Mapping[str, Any], stage: str) -> Iterator[Metric]:
    for facet, rows in part.get("facets", {}).items():
        for row in rows:
            dimensions = {
                "BiasStage": stage,
                "Label": part["label"],
                "LabelValue": str(part["label_value_or_threshold"]),
                "Facet": facet,
                "FacetValue": str(row["value_or_threshold"]) or NOTHING,
            }
            for metric in row["metrics"]:  # whose value may be the text `Infinity`
                yield Metric(f"bias_metric_{metric['name']}", float(metric["value"]), dimensions)


def _of_attributions(explanations: Mapping[str, Any]) -> Iterator[Metric]:
    for label, own in explanations.get("kernel_shap", {}).items():
        dimensions = {"ExplainabilityMethod": "KernelShap", "Label": label}
        for name, value in own["global_shap_values"].items():
            yield Metric(f"feature_{name}", value, dimensions | {"ValueType": "GlobalShapValues"})
        kind = {"ValueType": "ExpectedValue"}
        yield Metric("ExpectedValue", own["expected_value"], dimensions | kind)


def write_metrics(
    folder: Path, metrics: Iterable[Metric], time: datetime, dimensions: Mapping[str, str]
) -> None:
    """Write metrics, one a line.

    Args:
        folder: The folder above `cloudwatch`.
        metrics: The metrics; infinite ones become the number that SageMaker writes, NaN is left
            out.
        time: The time of all.
        dimensions: The dimensions of all by name.
    """
    lines = [
        {
            "MetricName": own.name,
            "Timestamp": as_text(time),
            "Dimensions": [
                {"Name": name, "Value": value}
                for name, value in (*dimensions.items(), *own.dimensions.items())
            ],
            "Value": own.value if math.isfinite(own.value) else math.copysign(LARGEST, own.value),
            "Unit": "None",
        }
        for own in metrics
        if not math.isnan(own.value)
    ]
    write_text(folder / CLOUDWATCH, "".join(json.dumps(line) + "\n" for line in lines))
