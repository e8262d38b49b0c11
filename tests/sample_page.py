"""A page with one part of every kind, and the things that go wrong in text and figures."""

from __future__ import annotations

import math
from io import BytesIO

from PIL import Image as Pillow

from facecodec.evaluation.page import Bars, Image, Plot, Section, Series, Slider, Strip, Table

HOSTILE = """<script>alert("1")</script> & 'quotes' {{ 7 * 7 }}"""
BUDGETS = (100, 200, 400, 800, 1600)


def picture(level: int, kind: str = "PNG") -> bytes:
    buffer = BytesIO()
    Pillow.new("RGB", (32, 24), (level, 128, 255 - level)).save(buffer, kind)
    return buffer.getvalue()


def rates(name: str, decibels: float) -> Series:
    values = [decibels + 3 * math.log2(budget) for budget in BUDGETS]
    return Series(
        name, tuple(zip(BUDGETS, values, strict=True)), tuple((value - 0.5, value + 0.5) for value in values)
    )


RATES = Plot("Quality", "bytes", "PSNR in dB", (rates("ours", 12), rates("JPEG", 8), rates(HOSTILE, 6)), True)
ROC = Plot(
    "ROC",
    "false accept rate in %",
    "true accept rate in %",
    tuple(
        Series(name, tuple((10 ** (-4 + 6 * i / 1000), 100 * (i / 1000) ** power) for i in range(1001)))
        for name, power in (("ours", 0.05), ("JPEG", 0.2))
    ),
    log_x=True,
    note="One face in a million.",
)
GROUPS = Bars(
    "By group",
    "false non-matches in %",
    ("women", "men"),
    (Series("ours", ((0, 1.2), (1, 1.1)), ((1, 1.5), (0.9, 1.4))), Series("JPEG", ((0, 3.5), (1, 2.25)))),
)
DIFFERENCES = Bars("Rate differences", "%", ("JPEG", "WebP"), (Series("ours", ((0, -41.9), (1, 3.9))),))
FIGURES = Table(
    "Bytes for a quality",
    ("codec", "26 dB", "28 dB", "30 dB", "32 dB", "34 dB", "36 dB", "38 dB", "remark"),
    (
        ("ours", "1,587", "765", "-", "1", "2", "3", "4", "none"),
        (HOSTILE, *["\u22129 %"] * 7, "5 of them"),
    ),
)
EXAMPLES = Strip(
    "Examples", tuple(tuple(Image(picture(40 * i), f"{row} {i}") for i in range(6)) for row in "ab")
)
CUTS = Slider(
    "One file, cut",
    tuple((float(size), Image(picture(50 * i, "JPEG"), f"cut {i}")) for i, size in enumerate(BUDGETS)),
    Image(picture(255, "WEBP"), "original"),
)
SECTIONS = (
    Section("Rate and distortion", f"A paragraph.\n\n{HOSTILE}", (RATES, DIFFERENCES, FIGURES)),
    Section("Recognition", "", (ROC, GROUPS)),
    Section("Pictures", "", (EXAMPLES, CUTS)),
)
FACTS = (("command", f"fsc eval rd --images {HOSTILE} " + "a" * 200), ("machine", "two cores"))
