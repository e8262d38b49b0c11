"""What a page is made of: charts, tables and pictures as plain data, without a word about codecs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Series:
    """A named line of points (x, y), with an interval (low, high) of y for every point or for none.

    Series of one name have one colour on the whole page and are shown and hidden together; in one chart all
    names differ.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    low_high: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.low_high and len(self.low_high) != len(self.points):
            raise ValueError(f"{self.name}: {len(self.points)} points, {len(self.low_high)} intervals")


@dataclass(frozen=True)
class Plot:
    """A line chart; `x` and `y` are the titles of the axes, with the unit."""

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = False
    note: str = ""


@dataclass(frozen=True)
class Bars:
    """Grouped bars from zero: the points of a series are (index of the group, value).

    With one series alone, the bars go by the names of the groups.
    """

    title: str
    y: str
    groups: tuple[str, ...]
    series: tuple[Series, ...]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text; a column whose cells are figures is aligned to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Image:
    """An encoded picture of a format that browsers show (PNG, JPEG, WebP, AVIF, GIF), and what it shows."""

    data: bytes
    caption: str


@dataclass(frozen=True)
class Strip:
    """Rows of pictures to compare side by side."""

    title: str
    rows: tuple[tuple[Image, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Slider:
    """Pictures for growing numbers of bytes, one at a time, beside the original."""

    title: str
    frames: tuple[tuple[float, Image], ...]
    original: Image
    note: str = ""


Part: TypeAlias = Plot | Bars | Table | Strip | Slider


@dataclass(frozen=True)
class Section:
    """A chapter of the page: a paragraph of text (a blank line starts another), then its parts."""

    title: str
    text: str
    parts: tuple[Part, ...]
