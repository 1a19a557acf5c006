"""The page of an hour: what moved, how much, since when, pictures before and now, what to do.

One file without scripts or anything from elsewhere; every text of users is escaped.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from regrow.monitor.answers import CLASS
from regrow.monitor.bias.section import section
from regrow.monitor.charts import bar, line_chart
from regrow.monitor.examples import NUM_SHOWN, Example, typical
from regrow.monitor.files.violations import NAMES
from regrow.monitor.hours.telling import moved_scores
from regrow.monitor.markup import shown as _text
from regrow.monitor.network.attributions import CELLS
from regrow.monitor.network.heat_map import heat_maps
from regrow.text import plural

NUM_MOVED = 6  # scores of pictures that are shown, and of answers
NUM_NAMED = 3  # of each that the first lines name
MOST_BROKEN = 60  # violations that are shown; the files have all
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1c2530;background:#fff;max-width:60rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0 0 .3rem}h2{font-size:1.15rem;margin:2rem 0 .5rem}
.state{padding:.8rem 1rem;border-radius:.4rem;border-left:.5rem solid}
.ok{background:#eaf6ec;border-color:#2e7d32}.warn{background:#fff6dd;border-color:#b7791f}
.bad{background:#fdeaea;border-color:#b3261e}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem .3rem 0;
border-bottom:1px solid #dde3ea;vertical-align:top}th{font-weight:600}
th.group{padding-top:1rem;color:#4a5666}
td.n{font-variant-numeric:tabular-nums;white-space:nowrap}
.pictures{display:flex;flex-wrap:wrap;gap:.6rem}figure{margin:0;width:8.6rem}
figure img{width:100%;height:7rem;object-fit:contain;background:#eef1f5;border-radius:.3rem;
image-rendering:auto}
figcaption{font-size:.75rem;overflow-wrap:anywhere;color:#4a5666}
.quiet{color:#4a5666;font-size:.9rem}summary{cursor:pointer}svg{max-width:100%;height:auto}
"""
# What the scores mean, by the beginning of their name.
MEANINGS = {
    "width": "width in pixels",
    "height": "height in pixels",
    "bytes": "size of the file",
    "aspect": "width over height",
    "brightness": "how light the pictures are",
    "contrast": "how much light and dark differ",
    "sharpness": "how sharp edges are",
    "saturation": "how strong colours are",
    "red": "share of red",
    "green": "share of green",
    "blue": "share of blue",
    "grey": "pictures without colour",
    "blockiness": "how much blocks of JPEG show",
    "roughness": "how rough surfaces are, at any contrast",
    "confidence": "probability of the predicted class",
    "entropy": "how undecided the model is",
    "mask_entropy": "how evenly classes fill the mask",
    "boxes": "objects a picture",
    "box_score": "score of the objects",
    "box_area": "share of the picture that an object fills",
    "box_aspect": "width over height of the objects",
    "embedding_distance": "how far the model's features lie from those of its class",
    "attribution_spread": "how evenly the parts of the picture matter",
}


def page(
    report: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    before: Sequence[Example],
    now: Sequence[Example],
) -> str:
    """Return the page of an hour as HTML.

    Args:
        report: The report of the hour.
        history: Rank and evidence of each score in this hour and those before.
        before: Pictures of the reference.
        now: Pictures of the hour.
    """
    alarms = [alarm for alarm in report["alarms"] if "facet" not in alarm]
    top = next((alarm["name"] for alarm in alarms if alarm["kind"] == "warn"), None)
    parts = [
        _head(report),
        _moved(alarms),
        _chart(top, history) if top is not None else "",
        _violations(report["violations"]),
        _quality(report["quality"]),
        section(report.get("bias"), report["alarms"]),
        _pictures(top, before, now),
        heat_maps(report.get("attribution")),
        _advice(report["alarms"]),
        _rest(report),
    ]
    title = _text(f"{report['name']}, {report['hour']}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.3g}" if isinstance(value, float) else _text(value)


def _when(text: str) -> str:
    """Return a time as people write it, to the minute."""
    return _text(re.sub(r"T(\d\d:\d\d)(:\d\d)?Z$", r" \1 UTC", text))


def _head(report: Mapping[str, Any]) -> str:
    kinds = {alarm["kind"] for alarm in report["alarms"]}
    loss = [alarm for alarm in report["alarms"] if "facet" not in alarm]
    if any(alarm["kind"] == "act" for alarm in loss):
        state, words = "bad", "The model makes more mistakes than was promised."
    elif "act" in kinds:
        state, words = "bad", "The model makes more mistakes on some pictures than on others."
    elif "data" in kinds:
        state, words = "bad", "Some of the data is broken."
    elif "warn" in kinds:
        state, words = "warn", "The pictures or the answers are no longer like the reference."
    elif not report["counts"]["num_pictures"]:
        state, words = "ok", "There were no pictures."
    else:
        state, words = "ok", "Nothing has changed."
    counts = report["counts"]
    lead = " ".join(_sentence(one) for kind in ("act", "warn") for one in _first(report, kind))
    lead += _others(report)
    return (
        f"<h1>{words}</h1><p class=quiet>{_text(report['name'])} "
        f"({_text(report['model'][:12])}), {_when(report['hour'])} to {_when(report['until'])}, "
        f"{plural(counts['num_pictures'], 'picture')}</p>"
        f'<p class="state {state}">{lead or _text(report["message"], 400)}</p>'
    )


def _first(report: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """Return the first alarm of a kind, if there is one."""
    return [alarm for alarm in report["alarms"] if alarm["kind"] == kind][:1]


def _sentence(alarm: Mapping[str, Any]) -> str:
    if "facet" in alarm:
        return f"{_text(alarm['words'], 400)} So since {_when(alarm['since'])}."
    if alarm["kind"] == "act":
        return (
            f"The loss is <b>{alarm['effect']:.3f}</b> since {_when(alarm['since'])}; it was "
            f"{alarm['before']:.3f} on the reference, and at most {alarm['limit']:.3f} was "
            "promised."
        )
    name = _text(alarm["name"])
    low, high = alarm["interval"]
    if alarm["what"] == "spread":
        moved = f"<b>{name}</b> spreads differently"
    else:
        moved = f"<b>{name}</b> is {'higher' if alarm['effect'] > 0.5 else 'lower'}"
    mean = f"{_number(alarm['now'])} on average, {_number(alarm['before'])} before"
    return (
        f"{moved} than in the reference since {_when(alarm['since'])}: {mean}. A picture of now "
        f"has a higher value than one of the reference in {alarm['effect']:.0%} of pairs "
        f"({low:.0%} to {high:.0%}; 50% is no change)."
    )


def _others(report: Mapping[str, Any]) -> str:
    """Return what moved besides the first score."""
    told, parts = _first(report, "warn"), []
    for group, warnings in moved_scores(report["alarms"]).items():
        names = [_text(own["name"]) for own in warnings if own not in told]
        left = len(names) - NUM_NAMED
        shown = ", ".join(names[:NUM_NAMED]) + (f" and {left} more" if left > 0 else "")
        parts += [f"in {group} {shown}"] if names else []
    return f"<br>Moved too: {'; '.join(parts)}." if parts else ""


def _moved(alarms: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for group, warnings in moved_scores(alarms).items():
        if warnings:
            rows.append(f"<tr><th colspan=5 class=group>in {group}</th></tr>")
        rows += [
            f"<tr><td><b>{_text(own['name'])}</b><br><span class=quiet>{_meaning(own['name'])}"
            f"</span></td><td class=n>{_number(own['before'])}</td>"
            f"<td class=n>{_number(own['now'])}</td>"
            f"<td class=n>{bar(own['effect'])} {own['effect']:.0%}{_spread(own)}</td>"
            f"<td class=n>{_when(own['since'])}</td></tr>"
            for own in warnings[:NUM_MOVED]
        ]
        left = len(warnings) - NUM_MOVED
        if left > 0:
            rows.append(f"<tr><td colspan=5 class=quiet>and {plural(left, 'more score')}</td></tr>")
    if not rows:
        return ""
    return (
        "<h2>What moved</h2><table><tr><th>score</th><th>mean before</th><th>mean now</th>"
        f"<th>now higher in</th><th>since</th></tr>{''.join(rows)}</table>"
        "<p class=quiet>Now higher in: in how many of all pairs of a picture of now and one of "
        "the reference; 50% is no change.</p>"
    )


def _spread(alarm: Mapping[str, Any]) -> str:
    is_spread = alarm["what"] == "spread"
    return "<br><span class=quiet>spreads differently</span>" if is_spread else ""


def _meaning(name: str) -> str:
    if name in MEANINGS:
        return MEANINGS[name]
    if name.startswith("probability of "):
        return "what the model gives this class"
    if name in CELLS:
        return "how much of the answer comes from this part of the picture"
    if name.startswith("projection_"):
        return "the model's features in a random direction"
    return "per picture" if name.startswith(("boxes of ", "share of ")) else ""


def _chart(name: str, history: Sequence[Mapping[str, Any]]) -> str:
    """Draw the mean rank of a score by the hour."""
    values = [one["ranks"].get(name) for one in history]
    if sum(value is not None for value in values) < 2:
        return ""
    return (
        f"<h2>{_text(name)} by the hour</h2>{line_chart(values)}"
        f"<p class=quiet>{_when(history[0]['hour'])} to {_when(history[-1]['hour'])}</p>"
    )


def _violations(violations: Sequence[Mapping[str, str]]) -> str:
    hard = [own for own in violations if "(descriptive" not in own["description"]]
    if not hard:
        return ""
    rows = "".join(
        f"<tr><td><b>{_text(own['feature_name'])}</b></td><td>{_text(own['description'], 400)}</td>"
        f"<td class=quiet>{_text(own['constraint_check_type'])}</td></tr>"
        for own in hard[:MOST_BROKEN]
    )
    left = len(hard) - MOST_BROKEN
    more = f"<p class=quiet>and {left:,} more in {NAMES[0]}</p>" if left > 0 else ""
    return f"<h2>What is broken</h2><table>{rows}</table>{more}"


def _quality(quality: Mapping[str, Any] | None) -> str:
    if quality is None:
        return ""
    if quality["value"] is None:
        return "<h2>Labels</h2><p>No label fits a captured answer.</p>"
    low, high = quality["interval"]
    coverage = quality["coverage"]
    share = "" if coverage is None else f", {coverage:.1%} of the pictures of their hours"
    return (
        f"<h2>Labels</h2><p>{_text(quality['name'])} is <b>{quality['value']:.3f}</b> "
        f"({low:.3f} to {high:.3f}) on {plural(quality['num_labels'], 'labelled picture')}"
        f"{share}.</p>"
    )


def _pictures(top: str | None, before: Sequence[Example], now: Sequence[Example]) -> str:
    if not now:
        return ""
    feature = top or "brightness"
    old, new = typical(before, feature), typical(now, feature)
    return f"<h2>Pictures before</h2>{_row(old, feature)}<h2>Pictures now</h2>{_row(new, feature)}"


def _row(examples: Sequence[Example], feature: str) -> str:
    figures = []
    for one in examples[:NUM_SHOWN]:
        value = one.values.get(feature)
        about = _answer(one.values)
        about += "" if value is None else f"<br>{_text(feature)} {_number(value)}"
        image = base64.b64encode(one.jpeg).decode()
        figures.append(
            f'<figure><img src="data:image/jpeg;base64,{image}" alt="">'
            f"<figcaption>{_text(one.name, 60)}{about}</figcaption></figure>"
        )
    return f"<div class=pictures>{''.join(figures)}</div>"


def _answer(values: Mapping[str, Any]) -> str:
    """Return what the model said of a picture, in a word."""
    if "confidence" in values:
        return f"<br>answer: {_text(values.get(CLASS), 40)} ({_number(values['confidence'])})"
    return ""


def _advice(alarms: Sequence[Mapping[str, Any]]) -> str:
    kinds = {alarm["kind"] for alarm in alarms}
    lines = []
    if "data" in kinds:
        lines.append(
            "See whether a camera, a client or a converter is broken. If the data is as it should "
            "be, change constraints.json."
        )
    acts = [alarm for alarm in alarms if alarm["kind"] == "act"]
    if any("facet" not in alarm for alarm in acts):
        lines.append(
            "Train again with the pictures that were labelled, from the model that is served: "
            "python scripts/train.py --warm-start MODEL. Serve the new model if its gate is open, "
            "and make a baseline of it."
        )
    if any("facet" in alarm for alarm in acts):
        lines.append(
            "Look at pictures of the kind that is answered worse, label more of them, and train "
            "again with these. If the difference is as it should be, raise its limit in "
            "analysis.json."
        )
    if "warn" in kinds and "act" not in kinds:
        lines.append(
            "Look at the pictures: is a camera dark, dirty or moved, was a client or a converter "
            "changed? Then mend that."
        )
        lines.append(
            "If pictures are like this from now on: a warning says that something changed, not "
            "that the model got worse. Label a few hundred pictures chosen at random, and run "
            "scripts/monitor.py again with --ground-truth: it says whether the model is worse. Do "
            "not train again on a warning alone."
        )
    if not lines:
        return ""
    return f"<h2>What to do</h2><ol>{''.join(f'<li>{line}</li>' for line in lines)}</ol>"


def _rest(report: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{_text(name)}</td><td class=n>{_number(own['before'])}</td>"
        f"<td class=n>{_number(own['now'])}</td><td class=n>{_number(own['rank'])}</td>"
        f"<td class=n>{_number(own['evidence'])}</td>"
        f"<td class=n>{_number(report['distances'].get(name))}</td></tr>"
        for name, own in report["scores"].items()
    )
    remarks = {**report["remarks"], **report["label_remarks"]}
    told = "".join(
        f"<tr><td class=n>{own['count']:,}</td><td>{_text(kind)}</td>"
        f"<td class=quiet>{_text(', '.join(own['first']), 300)}</td></tr>"
        for kind, own in remarks.items()
    )
    missing = report["missing_hours"]
    gap = ""
    if missing["count"]:
        count = plural(missing["count"], "hour")
        gap = f"<p>{count} before this one had no captures, from {_when(missing['first'])} on.</p>"
    table = (
        "<table><tr><th>score</th><th>mean before</th><th>mean now</th><th>mean rank</th>"
        f"<th>evidence</th><th>distance</th></tr>{rows}</table>"
    )
    return (
        f"{gap}<details><summary>All scores</summary><p class=quiet>The mean rank is 0.5 where "
        f"nothing has changed; evidence is a power of ten, and {report['level']:.1f} makes a "
        "warning. The distance is SageMaker's, of this hour alone; it describes, and warns of "
        f"nothing.</p>{table}</details>"
        + (
            f"<details open><summary>Left out</summary><table>{told}</table></details>"
            if told
            else ""
        )
    )
