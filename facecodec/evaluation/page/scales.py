"""Values to places on an axis, and to text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, decimals: int) -> str:
    """A figure with thousands set apart and a true minus sign."""
    return f"{value:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def decimals_for(values: Iterable[float]) -> int:
    """Decimals that tell a 500th of the span of `values` apart; none for whole numbers."""
    finite = [value for value in values if math.isfinite(value)]
    span = max(finite, default=0.0) - min(finite, default=0.0)
    if all(value == round(value) for value in finite):
        return 0
    return min(max(math.ceil(math.log10(500 / (span or 1.0))), 0), 6)


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, linear or logarithmic, with its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...] = ()
    log: bool = False

    def place(self, value: float) -> float:
        """Where `value` lies on the axis: 0 at `low`, 1 at `high`."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def label(self, tick: float) -> str:
        """A tick as text, with no more decimals than the ticks need."""
        if self.log:
            exponent = round(math.log10(tick))
            if exponent < -2 and math.isclose(tick, 10.0**exponent):
                return "10" + str(exponent).translate(SUPERSCRIPTS)
            return significant(tick)
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else abs(tick) or 1.0
        return number(tick, max(0, -math.floor(math.log10(step) + 1e-9)))


def significant(value: float) -> str:
    """A figure with four significant digits, for values of very different size."""
    if not value:
        return "0"
    text = number(value, max(0, 3 - math.floor(math.log10(abs(value)))))
    return text.rstrip("0").rstrip(".") if "." in text else text


def linear(values: Iterable[float], *, whole_steps: bool = False) -> Scale:
    """A linear axis over `values` with about five ticks, from zero if that is near.

    `whole_steps` extends it to a tick at both ends.
    """
    low, high = _span(values)
    if 0 < low < high / 10:
        low = 0.0
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.9)
    first, last = low / step, high / step
    if whole_steps:
        first, last = math.floor(first + 1e-9), math.ceil(last - 1e-9)
        low, high = first * step, last * step
    ticks = range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)
    return Scale(low, high, tuple(tick * step for tick in ticks))


def logarithmic(values: Iterable[float]) -> Scale:
    """A logarithmic axis over positive `values`, with ticks at 1, 2, 5 or 1, 3 or powers of ten."""
    positive = list(values)
    low, high = min(positive), max(positive)
    if high < low * 1.01:
        low, high = low / 2, high * 2
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    length = math.log10(high / low)
    factors = (1, 2, 5) if length < 1.7 else (1, 3) if length < 3.5 else (1,)
    ticks = (factor * 10.0**decade for decade in decades for factor in factors)
    return Scale(low, high, tuple(tick for tick in ticks if low * 0.999 <= tick <= high * 1.001), log=True)


def _span(values: Iterable[float]) -> tuple[float, float]:
    finite = list(values)
    low, high = min(finite), max(finite)
    margin = max(abs(low), abs(high)) / 10 or 1.0
    if high - low > margin * 1e-8:
        return low, high
    return low - margin, high + margin  # a span that no text could tell from none
