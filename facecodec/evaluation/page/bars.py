"""The geometry of grouped bars, as shares of the width from its left."""

from __future__ import annotations

import math
from dataclasses import dataclass

from facecodec.evaluation.page.parts import Bars
from facecodec.evaluation.page.scales import Scale, decimals_for, number


@dataclass(frozen=True)
class Bar:
    """A bar from `left`, its figures as text, and its whisker if it has an interval."""

    name: str
    left: float
    width: float
    text: str
    interval: str = ""
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class BarChart:
    """Where zero lies, and the bars of every group; no groups if no value is finite."""

    zero: float
    groups: tuple[tuple[str, tuple[Bar, ...]], ...]


def bar_chart(bars: Bars) -> BarChart:
    """Place the bars from zero; values that are not finite have none."""
    values = [value for one in bars.series for _, value in one.points if math.isfinite(value)]
    bounds = [bound for one in bars.series for both in one.low_high for bound in both if math.isfinite(bound)]
    if not values:
        return BarChart(0.0, ())
    ends = [0.0, *values, *bounds]
    scale = Scale(min(ends), max(ends) if max(ends) > min(ends) else 1.0)
    zero = scale.place(0.0)
    decimals = decimals_for(ends)

    def bar(name: str, value: float, low: float, high: float) -> Bar:
        end = scale.place(value)
        plain = Bar(name, min(zero, end), abs(end - zero), number(value, decimals))
        if not math.isfinite(low) or not math.isfinite(high):
            return plain
        interval = f"{number(low, decimals)} to {number(high, decimals)}"
        return Bar(name, plain.left, plain.width, plain.text, interval, scale.place(low), scale.place(high))

    unknown = (math.nan, math.nan)
    groups = [
        tuple(
            bar(one.name, value, *(one.low_high[place] if one.low_high else unknown))
            for one in bars.series
            for place, (index, value) in enumerate(one.points)
            if index == group and math.isfinite(value)
        )
        for group in range(len(bars.groups))
    ]
    return BarChart(zero, tuple(zip(bars.groups, groups, strict=True)))
