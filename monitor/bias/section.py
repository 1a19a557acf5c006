"""The section of the page about bias: which pictures are answered otherwise than the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

from regrow.monitor.markup import shown

MOST = 60  # rows of the table, and sentences


def section(bias: Mapping[str, Any] | None, alarms: Sequence[Mapping[str, Any]]) -> str:
    """Return the section as HTML; nothing where there is nothing to show.

    Args:
        bias: What the report says of bias.
        alarms: The alarms of the hour.
    """
    told = [alarm for alarm in alarms if "facet" in alarm]
    facets = {} if bias is None else bias["facets"]
    rows = [
        _row(facet, value, own)
        for facet, values in facets.items()
        for value, own in values.items()
        if own["predicted"] is not None or own["wrong"] is not None
    ]
    if bias is None or not (told or rows):
        return ""
    sentences = "".join(f"<p>{shown(own['words'], 400)} {_range(own)}</p>" for own in told[:MOST])
    sentences += _left(len(told))
    return f"<h2>Kinds of pictures</h2>{sentences}{_table(bias, rows)}"


def _left(count: int) -> str:
    return f"<p class=quiet>and {count - MOST:,} more</p>" if count > MOST else ""


def _range(alarm: Mapping[str, Any]) -> str:
    """Return how large the gap is, and how large it may be."""
    low, high = sorted(abs(end) for end in alarm["interval"])
    return (
        f"<span class=quiet>The gap is {low:.0%} to {high:.0%}; at most {alarm['limit']:.0%} is "
        "accepted (analysis.json).</span>"
    )


def _table(bias: Mapping[str, Any], rows: Sequence[str]) -> str:
    small = [
        f"{facet} {value}"
        for facet, values in bias["facets"].items()
        if len(values) > 1
        for value, own in values.items()
        if own["predicted"] is None and own["wrong"] is None
    ]
    words = (
        "Each kind beside the others, in this hour. Ranges are of the difference, at 95%; they "
        "describe, and make no alarm."
    )
    few = ""
    if small:
        names = ", ".join(small[:10]) + (", ..." if len(small) > 10 else "")
        least = bias["smallest_group"]
        few = f"<p class=quiet>Fewer than {least} pictures, or others: {shown(names, 300)}.</p>"
    if not rows:
        return few
    label = shown(bias["label"], 60)
    columns = ("pictures", "number", f"predicted {label}", "wrong (loss)")
    head = "".join(f"<th>{column}</th>" for column in columns)
    table = f"<table><tr>{head}</tr>{''.join(rows[:MOST])}</table>"
    more = _left(len(rows))
    return (
        f"<details><summary>By kind</summary><p class=quiet>{words}</p>{table}{more}{few}</details>"
    )


def _row(facet: str, value: str, own: Mapping[str, Any]) -> str:
    labels = f", {own['labelled']:,} labelled" if own["labelled"] else ""
    return (
        f"<tr><td>{shown(facet.replace('_', ' '), 60)} <b>{shown(value or '(empty)', 60)}</b></td>"
        f"<td class=n>{own['pictures']:,}{labels}</td>"
        f"<td class=n>{_share(own['predicted'])}</td><td class=n>{_share(own['wrong'])}</td></tr>"
    )


def _share(own: Mapping[str, Any] | None) -> str:
    if own is None:
        return "-"
    low, high = own["interval"]
    return f"{own['value']:.1%}, others {own['rest']:.1%} ({low:+.1%} to {high:+.1%})"
