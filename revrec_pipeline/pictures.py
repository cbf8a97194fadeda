"""Two small pictures for the summary of a job, as SVG text: no library, the same bytes each time.

Counts come in, text goes out; what is counted is in `summary`.
"""

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 56, 44
#: Told apart also by people who see no red and green (Okabe and Ito).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#555555")
#: As many months as have room for their names.
_LABELS = 18


def bars(title: str, groups: Sequence[str], series: Mapping[str, Sequence[int]]) -> str:
    """Bars side by side: one group for each of `groups`, one bar in it for each of `series`.

    Each of `series` has a number for each group.
    """
    highest = max((max(values, default=0) for values in series.values()), default=0)
    top = _round_up(highest)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    step = width / max(len(groups), 1)
    thick = step * 0.8 / max(len(series), 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img" font-family="sans-serif" font-size="11">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    for share in (0, 0.5, 1):
        y = _TOP + height * (1 - share)
        parts += [
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ccc"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * share:g}</text>',
        ]
    for number, (name, values) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        at = _LEFT + number * width / max(len(series), 1)
        parts += [
            f'<rect x="{at:.1f}" y="30" width="10" height="10" fill="{colour}"/>',
            f'<text x="{at + 14:.1f}" y="39">{escape(name)}</text>',
        ]
        for place, value in enumerate(values):
            tall = height * value / top
            x = _LEFT + step * (place + 0.1) + thick * number
            parts.append(
                f'<rect x="{x:.1f}" y="{_TOP + height - tall:.1f}" width="{thick:.1f}" '
                f'height="{tall:.1f}" fill="{colour}">'
                f"<title>{escape(f'{groups[place]}, {name}: {value}')}</title></rect>"
            )
    every = -(-len(groups) // _LABELS) or 1
    parts += [
        f'<text x="{_LEFT + step * (place + 0.5):.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
        f'text-anchor="middle" font-size="9">{escape(group)}</text>'
        for place, group in enumerate(groups)
        if place % every == 0
    ]
    return "\n".join([*parts, "</svg>", ""])


def _round_up(highest: int) -> int:
    """The next of 2, 4, 10, 20, 40, 100 …, so that its half is a whole number, too."""
    scale = 1
    while True:
        for step in (2, 4, 10):
            if step * scale >= highest:
                return step * scale
        scale *= 10
