"""Charts of the page, as SVG: numbers in, no text of anybody."""

from collections.abc import Sequence

WIDTH, HEIGHT = 640, 120  # of the chart by the hour, in pixels
MARGIN = 150  # beside it, for what its height means
SCALE = {0: "all pictures higher", HEIGHT // 2: "as the reference", HEIGHT: "all pictures lower"}


def bar(effect: float) -> str:
    """Draw how far an effect in [0, 1] is from one half, to the left or to the right."""
    left, width = min(effect, 0.5) * 100, abs(effect - 0.5) * 100
    return (
        '<svg width="100" height="12" role="img" aria-label="effect">'
        '<rect width="100" height="12" fill="#eef1f5"/>'
        f'<rect x="{left:.1f}" width="{width:.1f}" height="12" fill="#b7791f"/>'
        '<rect x="49.5" width="1" height="12" fill="#1c2530"/></svg>'
    )


def line_chart(values: Sequence[float | None]) -> str:
    """Draw the mean rank of a score by the hour, from 0 at the lower edge to 1 at the upper one.

    Args:
        values: The ranks, in [0, 1]; None where an hour has none.
    """
    step = WIDTH / max(len(values) - 1, 1)
    points = [
        (place * step, HEIGHT * (1 - value))
        for place, value in enumerate(values)
        if value is not None
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#b7791f"/>' for x, y in points)
    scale = "".join(
        f'<line x1="0" x2="{WIDTH}" y1="{y}" y2="{y}" stroke="#c9d1da" stroke-dasharray="4"/>'
        f'<text x="{WIDTH + 12}" y="{y + 4}" font-size="12" fill="#4a5666">{words}</text>'
        for y, words in SCALE.items()
    )
    return (
        f'<svg viewBox="-4 -8 {WIDTH + MARGIN} {HEIGHT + 16}" width="{WIDTH + MARGIN}" role="img" '
        f'aria-label="mean rank by the hour">{scale}<polyline points="{line}" fill="none" '
        f'stroke="#b7791f" stroke-width="2"/>{dots}</svg>'
    )
