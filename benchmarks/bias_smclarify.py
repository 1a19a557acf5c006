"""What smclarify says of tables of counts; run by `bias.py` in an environment that has it.

Reads a list of tables from standard input, each with `rest` and `facet`, true positives, false
positives, false negatives and true negatives; writes for each the metrics by name, null where
smclarify refuses.
"""

import json
import logging
import sys
import warnings

import pandas as pd
from smclarify.bias.report import FacetColumn, LabelColumn, StageType, bias_report

# Label and prediction of the four counts.
PAIRS = ((1, 1), (0, 1), (1, 0), (0, 0))


def metrics(table: dict[str, list[int]]) -> dict[str, float | None]:
    """Return the metrics of a table, as a report of smclarify's has them."""
    rows = [
        (side, label, predicted)
        for side, name in enumerate(("rest", "facet"))
        for (label, predicted), count in zip(PAIRS, table[name], strict=True)
        for _ in range(count)
    ]
    frame = pd.DataFrame(rows, columns=["facet", "label", "predicted"])
    # Few whole numbers would be taken for continuous ones.
    frame = frame.astype("category")
    label = LabelColumn("label", frame["label"], [1])
    facet = FacetColumn("facet", [1])
    found: dict[str, float | None] = {}
    for stage, own in (
        (StageType.PRE_TRAINING, None),
        (StageType.POST_TRAINING, LabelColumn("predicted", frame["predicted"], [1])),
    ):
        (report,) = bias_report(frame, facet, label, stage, own)
        found |= {one["name"]: one["value"] for one in report["metrics"]}
    return found


def main() -> None:
    """Answer the tables of standard input."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    json.dump([metrics(table) for table in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
