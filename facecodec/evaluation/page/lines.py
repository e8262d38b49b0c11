"""The geometry of a line chart.

Places are shares of the plot, from its left and from its top, and become percentages in the page: so a chart
takes any width while its text, dots and lines keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from facecodec.evaluation.page.parts import Plot, Series
from facecodec.evaluation.page.scales import decimals_for, linear, logarithmic, number, significant

INDISTINCT = 0.002  # of the plot's sides: points nearer than this are drawn and read out once
MOST_DOTS = 40  # of one line; a longer one is a line alone
# Labels must not overlap in a plot of these many pixels, on a wide screen and on a phone.
WIDE, NARROW, HEIGHT = 420, 240, 260
LETTER, LINE, MARGIN = 7, 15, 80
FARTHEST = 3 * LINE  # that a name may be moved from the end of its line


@dataclass(frozen=True)
class Tick:
    """A label on an axis; one that is not `narrow` has no room on a phone."""

    place: float
    label: str
    narrow: bool = True


@dataclass(frozen=True)
class Dot:
    """A point with its interval, and its figures as text: x, y and, if there is one, the interval."""

    x: float
    y: float
    low: float
    high: float
    text: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A series on the chart; `shift` moves the name at its end down in pixels, None if names have no room."""

    name: str
    dots: tuple[Dot, ...]
    shift: int | None

    @property
    def dotted(self) -> bool:
        """Whether its points are marked."""
        return len(self.dots) <= MOST_DOTS

    @property
    def end(self) -> Dot:
        """Its rightmost point."""
        return max(self.dots, key=lambda dot: dot.x)

    @property
    def path(self) -> str:
        """The line in SVG, on a plot of 1000 by 1000."""
        return _path([(dot.x, dot.y) for dot in self.dots])

    @property
    def band(self) -> str:
        """The outline of its intervals in SVG, empty if it has none."""
        if all(dot.low == dot.high for dot in self.dots):
            return ""
        upper = [(dot.x, dot.high) for dot in self.dots]
        return _path(upper + [(dot.x, dot.low) for dot in reversed(self.dots)]) + "Z"


@dataclass(frozen=True)
class LineChart:
    """Ticks and lines; no lines if no point has a place."""

    x_ticks: tuple[Tick, ...] = ()
    y_ticks: tuple[Tick, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def readout(self) -> list[dict[str, object]]:
        """For the script, of every line its name and points: % from the left, % from the top, figures."""
        return [
            {
                "name": line.name,
                "points": [[round(100 * dot.x, 2), round(100 * dot.y, 2), *dot.text] for dot in line.dots],
            }
            for line in self.lines
        ]


def line_chart(plot: Plot) -> LineChart:
    """Place the points of a plot but for those that are not finite, or not positive on a logarithmic axis."""
    points = {one.name: list(_placeable(one, positive_x=plot.log_x)) for one in plot.series}
    xs = [x for x, *_ in chain.from_iterable(points.values())]
    ys = [y for _, *heights in chain.from_iterable(points.values()) for y in heights]
    if not xs:
        return LineChart()
    x_axis = logarithmic(xs) if plot.log_x else linear(xs)
    y_axis = linear(ys, whole_steps=True)
    x_decimals, y_decimals = decimals_for(xs), decimals_for(ys)

    def dot(x: float, y: float, low: float, high: float) -> Dot:
        text = [significant(x) if plot.log_x and x_decimals else number(x, x_decimals), number(y, y_decimals)]
        if low < high:
            text.append(f"{number(low, y_decimals)} to {number(high, y_decimals)}")
        top, above, below = (1 - y_axis.place(height) for height in (y, high, low))
        return Dot(x_axis.place(x), top, low=below, high=above, text=tuple(text))

    dots = {name: tuple(_distinct([dot(*point) for point in some])) for name, some in points.items() if some}
    shifts = _shifts({name: max(line, key=lambda dot: dot.x) for name, line in dots.items()})
    return LineChart(
        x_ticks=tuple(_fitting([Tick(x_axis.place(tick), x_axis.label(tick)) for tick in x_axis.ticks])),
        y_ticks=tuple(Tick(1 - y_axis.place(tick), y_axis.label(tick)) for tick in y_axis.ticks),
        lines=tuple(Line(name, line, shifts.get(name)) for name, line in dots.items()),
    )


def _placeable(one: Series, *, positive_x: bool) -> Iterator[tuple[float, float, float, float]]:
    for (x, y), (low, high) in zip(one.points, one.low_high or [(y, y) for _, y in one.points], strict=True):
        if all(map(math.isfinite, (x, y, low, high))) and (x > 0 or not positive_x):
            yield x, y, low, high


def _distinct(dots: Sequence[Dot]) -> Iterator[Dot]:
    """The first, the last, and each that can be told from the one before it."""
    previous = dots[0]
    yield previous
    for dot in dots[1:-1]:
        if max(abs(dot.x - previous.x), abs(dot.y - previous.y)) >= INDISTINCT:
            previous = dot
            yield dot
    yield from dots[1:][-1:]


def _fitting(ticks: Sequence[Tick]) -> Iterator[Tick]:
    """The ticks whose labels fit side by side, powers of ten before others."""
    preferred = sorted(ticks, key=lambda tick: tick.label.strip("10,.") != "")
    wide, narrow = (_side_by_side(preferred, width) for width in (WIDE, NARROW))
    return (Tick(tick.place, tick.label, tick in narrow) for tick in ticks if tick in wide)


def _side_by_side(ticks: Sequence[Tick], width: int) -> list[Tick]:
    fitting: list[Tick] = []
    for tick in ticks:
        if all(
            abs(tick.place - other.place) * width > LETTER * (len(tick.label) + len(other.label) + 2) / 2
            for other in fitting
        ):
            fitting.append(tick)
    return fitting


def _shifts(ends: dict[str, Dot]) -> dict[str, int]:
    """How far to move the names at the lines' ends so that none overlap; none if one has no room.

    All lines must end at the right, where the margin takes their names; the legend has them anyway.
    """
    if any(end.x < 0.9 or LETTER * len(name) > MARGIN for name, end in ends.items()):
        return {}
    shifts: dict[str, float] = {}
    place = -math.inf
    for name, end in sorted(ends.items(), key=lambda item: item[1].y):
        place = max(end.y * HEIGHT, place + LINE)
        shifts[name] = place - end.y * HEIGHT
    middle = (min(shifts.values()) + max(shifts.values())) / 2
    if max(shifts.values()) - middle > FARTHEST:
        return {}
    return {name: round(shift - middle) for name, shift in shifts.items()}


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{1000 * x:.4g} {1000 * y:.4g}" for x, y in places)
