"""The files `statistics.json` of SageMaker Model Monitor, written from a summary.

Source: Amazon SageMaker Developer Guide, "Schema for Statistics (statistics.json file)".
"""

import math
from typing import Any

from regrow.monitor.distribution import MAX_CELLS
from regrow.monitor.summary import Feature, Numbers, Summary

STATISTICS = "statistics.json"
SKETCH = {"c": 0.64, "k": float(MAX_CELLS)}
LARGEST = 1.7976931348623157e308  # JSON has no infinity


def statistics(summary: Summary) -> dict[str, Any]:
    """Return what `statistics.json` holds: each feature's counts, moments and distribution.

    Args:
        summary: The summary of the features.
    """
    features = [_feature(name, own) for name, own in summary.features.items()]
    return {"version": 0, "dataset": {"item_count": summary.num_items}, "features": features}


def _feature(name: str, own: Feature) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "inferred_type": own.kind}
    if own.kind == "String":
        present, key = own.texts.count, "string_statistics"
        counts = sorted(own.texts.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        buckets = [{"value": text, "count": count} for text, count in counts]
        more: dict[str, Any] = {
            "distinct_count": len(counts),
            "distribution": {"categorical": {"buckets": buckets}},
        }
    else:
        present, key = own.numbers.count, "numerical_statistics"
        more = _numbers(own.numbers) if present else {}
    missing = own.num_missing + own.num_present - present  # of another type counts as missing
    return made | {key: {"common": {"num_present": present, "num_missing": missing}} | more}


def _numbers(own: Numbers) -> dict[str, Any]:
    low, high = own.low, own.high
    return {
        "mean": own.mean,
        "sum": _finite(own.sum),
        "std_dev": _finite(own.std),
        "min": low,
        "max": high,
        "distribution": {
            "kll": {
                "buckets": own.distribution.buckets(low, high),
                "sketch": {"parameters": SKETCH, "data": own.distribution.sketch(low, high)},
            }
        },
    }


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.copysign(LARGEST, value)
