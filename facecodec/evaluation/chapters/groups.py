"""Groups: who is taken for whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from facecodec.evaluation.chapters.text import OWN, SHOWN_BYTES, Summary, figure, pictures
from facecodec.evaluation.page import Bars, Part, Section, Series, Table


def groups(summary: Summary, out: Path) -> Section:
    """Return the tables and the bars of a ``groups-COLUMN.json``."""
    names = tuple(summary["groups"])
    parts: list[Part] = []
    for by, compared in summary["by"].items():
        budgets = {row["budget"] for row in compared["rows"] if "budget" in row}
        near = min(budgets, key=lambda budget: abs(budget - SHOWN_BYTES)) if budgets else None
        shown = [row for row in compared["rows"] if row.get("budget") == near]
        for key, title in (
            ("false_match_rate", "False matches"),
            ("false_non_match_rate", "False non-matches"),
        ):
            series = tuple(
                Series(
                    summary["titles"].get(row.get("codec"), row["name"]),
                    tuple(
                        (float(i), 100 * row["groups"][group][key])
                        for i, group in enumerate(names)
                        if row["groups"][group][key] is not None
                    ),
                )
                for row in shown
            )
            at = f", {near:,} bytes" if near else ""
            parts.append(Bars(f"{title} by {by}{at}", f"{title.lower()} in %", names, series))
        parts.append(_group_table(by, compared, names))
    counts = ", ".join(f"{name}: {count:,}" for name, count in summary["groups"].items())
    text = (
        f"{pictures(summary)} Groups by {summary['column']}: {counts}; "
        f"{summary['without_label']:,} pictures have no such label and are left out. One threshold for "
        f"all groups: {100 * summary['false_match_rate']:g} % of all pairs of different pictures "
        "pass it. False matches: different pictures of a group at or above it. False non-matches: a degraded "
        "or decoded picture below it when compared with its own original; identities are not needed, so this "
        "is no rate of two photographs of a person."
        f"{OWN if summary['judge'] == 'own' else ''}"
    )
    return Section(f"Groups: {summary['column']}", text, tuple(parts))


def _group_table(by: str, compared: dict[str, Any], names: tuple[str, ...]) -> Table:
    rows = []
    for row in compared["rows"]:
        cells = []
        for name in names:
            of = row["groups"][name]
            match, miss = (
                figure(of["false_match_rate"], ".3f", 100),
                f"{100 * of['false_non_match_rate']:.2f}",
            )
            cells.append(f"{match} / {miss} / {figure(of['mean_cosine'], '.3f')}")
        gap = row["largest_gap"]
        gaps = (gap["false_match_rate"], gap["false_non_match_rate"])
        last = " / ".join([f"{100 * gaps[0]:.3f}", f"{100 * gaps[1]:.2f}", f"{gap['mean_cosine']:.3f}"])
        rows.append((row.get("title", row["name"]), *cells, last))
    note = "False matches in %, false non-matches in %, mean cosine to the original."
    return Table(f"Rates by {by}", ("version", *names, "largest gap"), tuple(rows), note)
