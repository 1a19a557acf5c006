"""First alarms of Evidently 0.7 or DataEval 1.1 in streams of scores; needs nothing of regrow.

    PYTHON benchmarks/monitoring_job.py evidently|dataeval FOLDER WINDOW

Each `.npz` in the folder holds `reference` (n, scores) and `stream` (m, scores). The stream is cut
into windows, each of which is compared with the reference, as the tools do it unless told
otherwise. The last line printed is JSON: by method and stream the number of pictures until the
first window that drifts, or null. `benchmarks/monitoring.py --part others` calls this.
"""

import json
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

SMALL = 300  # pictures of the reference for methods whose cost is that of all pairs
Test = Callable[[np.ndarray], bool]


def evidently_tests(reference: np.ndarray) -> Mapping[str, Test]:
    """Return the tests of Evidently against a reference: per column as in its DataDriftPreset."""
    import pandas as pd
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType
    from evidently.legacy.metrics.data_drift.embedding_drift_methods import mmd, model

    columns = [pd.Series(values) for values in reference.T]
    few = pd.DataFrame(_scaled(reference, reference)[:SMALL])

    def drifted(window: np.ndarray) -> float:
        found = 0
        for before, now in zip(columns, map(pd.Series, window.T), strict=True):
            test = get_stattest(before, now, ColumnType.Numerical, None)
            found += test(before, now, ColumnType.Numerical, None).drifted
        return found / len(columns)

    def frame(window: np.ndarray) -> "pd.DataFrame":
        return pd.DataFrame(_scaled(window, reference))

    by_mmd, by_model = mmd(bootstrap=True), model()
    return {
        "half of the columns": lambda window: drifted(window) >= 0.5,
        "any column": lambda window: drifted(window) > 0,
        "MMD with bootstrap": lambda window: bool(by_mmd(frame(window), few.copy())[1]),
        "classifier": lambda window: bool(by_model(frame(window), few.copy())[1]),
    }


def dataeval_tests(reference: np.ndarray) -> Mapping[str, Test]:
    """Return the tests of DataEval against a reference."""
    from dataeval.shift import DriftMMD, DriftUnivariate

    by_ks, by_mmd = DriftUnivariate(), DriftMMD(device="cpu")
    by_ks.fit(reference.astype(np.float32))
    by_mmd.fit(_scaled(reference, reference)[:SMALL].astype(np.float32))
    return {
        "KS": lambda window: bool(by_ks.predict(window.astype(np.float32)).drifted),
        "MMD": lambda window: bool(
            by_mmd.predict(_scaled(window, reference).astype(np.float32)).drifted
        ),
    }


def _scaled(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return scores as shares of their spread in the reference, as distances need them."""
    return (values - reference.mean(axis=0)) / reference.std(axis=0)


def first_alarm(test: Test, stream: np.ndarray, window: int) -> int | None:
    """Return the number of pictures until the first window that drifts."""
    for stop in range(window, len(stream) + 1, window):
        if test(stream[stop - window : stop]):
            return stop
    return None


def main() -> None:
    """Print the first alarms of a tool as JSON."""
    warnings.simplefilter("ignore")
    tool, folder, window = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    make = {"evidently": evidently_tests, "dataeval": dataeval_tests}[tool]
    found: dict[str, dict[str, int | None]] = {}
    for file in sorted(folder.glob("*.npz")):
        with np.load(file) as arrays:
            reference, stream = arrays["reference"], arrays["stream"]
        for method, test in make(reference).items():
            found.setdefault(method, {})[file.stem] = first_alarm(test, stream, window)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
