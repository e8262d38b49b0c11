"""A report to look at: one HTML file that stands alone."""

from __future__ import annotations

from facecodec.evaluation.page.document import html
from facecodec.evaluation.page.parts import (
    Bars,
    Image,
    Part,
    Plot,
    Section,
    Series,
    Slider,
    Strip,
    Table,
)

__all__ = ["Bars", "Image", "Part", "Plot", "Section", "Series", "Slider", "Strip", "Table", "html"]
