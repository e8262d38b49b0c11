"""Words that chapters share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Summary = dict[str, Any]

NOTHING = "-"
OWN = " The judge is this codec's own embedding: no independent witness."
SHOWN_BYTES = 1024
"""The budget nearest to this is drawn where one has to be chosen."""


def pictures(summary: Summary) -> str:
    """Return of which pictures the figures are, and of which day."""
    absent = summary.get("without_face", 0)
    count = absent if isinstance(absent, int) else len(absent)
    without = f", {count:,} of them without a face found" if count else ""
    return f"{summary['pictures']:,} pictures of {Path(summary['images']).name}{without}, {summary['date']}."


def figure(value: float | None, form: str, factor: float = 1) -> str:
    """Return a number as text."""
    return NOTHING if value is None else f"{factor * value:{form}}"


def variant(summary: Summary) -> tuple[str, str]:
    """Return in words which chips were coded and what for, and that as the end of a heading."""
    text, kinds = "", []
    if chip := summary["options"]["chips"]:
        text += f" Of each picture only the recognition frame was coded, {chip} pixels a side."
        kinds.append(f", {chip} px")
    if (tune := summary["options"]["tune"]) != "fidelity":
        text += f" Our files are tuned for {tune}: what the map of regions calls dear is refined first."
        kinds.append(f", {tune}")
    return text, "".join(kinds)
