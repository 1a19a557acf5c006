"""The table of rows of `pruners.py`: means over seeds, and differences by seed.

It needs the standard library alone: another tool's environment need not have regrow.
"""

import math
import statistics
from typing import Any

# Student's t for two-sided 95 % intervals, by the number of pairs.
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


def swept(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each seed of a tool the row whose recipe is best on the held-out images."""
    best: dict[int, dict[str, Any]] = {}
    for row in rows:
        if row["seed"] not in best or row["val"] > best[row["seed"]]["val"]:
            best[row["seed"]] = row
    return [*best.values()]


def grouped(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows by what a line of the table is about."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for tool in dict.fromkeys(row["tool"] for row in rows):
        own = [row for row in rows if row["tool"] == tool]
        recipes = dict.fromkeys((row["lr"], row["distillation"]) for row in own)
        if len(recipes) > 1:
            lines[f"{tool}, swept"] = swept(own)
        for lr, share in recipes:
            chosen = [row for row in own if (row["lr"], row["distillation"]) == (lr, share)]
            lines[f"{tool}, {lr:g}" + (", distilled" if share else "")] = chosen
    return lines


def mean_of(values: list[float]) -> str:
    """Return a mean in percent with the sample deviation."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def difference(own: list[dict[str, Any]], first: list[dict[str, Any]]) -> str:
    """Return the mean difference by seed in points, with its 95 % interval by Student's t."""
    scores, others = ({row["seed"]: 100 * row["test"] for row in rows} for rows in (own, first))
    pairs = [scores[seed] - others[seed] for seed in scores if seed in others]
    if own is first or len(pairs) < 2:
        return ""
    half = T_95[len(pairs)] * statistics.stdev(pairs) / math.sqrt(len(pairs))
    mean = statistics.mean(pairs)
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def table(rows: list[dict[str, Any]]) -> str:
    """Return the mean over seeds of each tool and recipe, and its deviation, as Markdown."""
    lines = [
        "| tool, rate | seeds | fewer MACs | parameters | untrained % | trained % | difference "
        "| pruning, s | training, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups = grouped(rows)
    first = next(iter(groups.values()))
    for name, own in groups.items():
        reduction, params, pruning, training = (
            statistics.mean(row[key] for row in own)
            for key in ("reduction", "params", "prune_seconds", "train_seconds")
        )
        untrained, trained = ([100 * row[key] for row in own] for key in ("untrained", "test"))
        lines.append(
            f"| {name} | {len(own)} | {reduction:.3f}x | {params:,.0f} | {mean_of(untrained)} "
            f"| {mean_of(trained)} | {difference(own, first)} | {pruning:.0f} | {training:.0f} |"
        )
    return "\n".join(lines)
