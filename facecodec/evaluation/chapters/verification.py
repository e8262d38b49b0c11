"""Verification: accuracy against bytes, ROC, bytes needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facecodec.evaluation.chapters.text import NOTHING, OWN, SHOWN_BYTES, Summary, figure, pictures, variant
from facecodec.evaluation.page import Part, Plot, Section, Series, Table


def verification(summary: Summary, out: Path) -> Section:
    """Return curves, tables and ROC of ``verify.json``, or of its kin for chips or another tune."""
    titles, rows = summary["titles"], summary["rows"]
    decoded = [row for row in rows if "codec" in row and row["bytes"]]
    parts: list[Part] = []
    if decoded:
        series = [_accuracies(titles[name], [r for r in decoded if r["codec"] == name]) for name in titles]
        span = [row["bytes"] for row in decoded]
        original = next(row for row in rows if row["name"] == "judge, original")
        flat = tuple((edge, 100 * original["accuracy"]) for edge in (min(span), max(span)))
        parts.append(
            Plot(
                "Accuracy of decoded pictures",
                "bytes of a whole file",
                "accuracy in %",
                (*series, Series("uncompressed", flat)),
                True,
                "Mean bytes of the files. The intervals are 1.96 standard errors of the ten folds.",
            )
        )
        cosines = tuple(
            Series(
                titles[name],
                tuple(
                    (r["bytes"], r["mean_cosine"])
                    for r in decoded
                    if r["codec"] == name and r["mean_cosine"] is not None
                ),
            )
            for name in titles
        )
        parts.append(Plot("Likeness to the original", "bytes of a whole file", "mean cosine", cosines, True))
    parts.append(_roc(summary, decoded))
    if summary["codes"]:
        curve = _accuracies("decoded codes", summary["codes"])
        span = [point["bytes"] for point in summary["codes"]]
        level = tuple((edge, 100 * rows[0]["accuracy"]) for edge in (min(span), max(span)))
        note = (
            "The float embeddings quantised again, with other steps and fewer axes, and coded by the coder "
            "of the format with static tables made of these very codes."
        )
        title = "Accuracy of identity codes"
        parts.append(
            Plot(
                title,
                "bytes of identity code",
                "accuracy in %",
                (curve, Series("float embedding", level)),
                True,
                note,
            )
        )
    parts.append(_accuracy_table(summary))
    if summary["needed"]:
        parts.append(_needed_table(summary["needed"], titles))
    judge = OWN if summary["judge"] == "own" else ""
    bytes_ = summary["identity_bytes"]
    text = (
        f"{summary['pairs']:,} pairs. {pictures(summary)} Accuracy by ten folds, each judged by the "
        "threshold of the others; a picture without a face, or without a file so small, makes an error of "
        "its pairs. "
        f"Other codecs take their best quality within so many bytes of a whole file.{judge}"
    )
    if bytes_:
        text += (
            f" Identity codes of one face: {bytes_['mean']:.1f} bytes on average, {bytes_['max']} at most."
        )
    coded, kind = variant(summary)
    return Section(f"Verification{kind}", text + coded, tuple(parts))


def _accuracies(name: str, rows: Sequence[dict[str, Any]]) -> Series:
    points = tuple((row["bytes"], 100 * row["accuracy"]) for row in rows)
    reach = [1.96 * row["standard_error"] for row in rows]
    ends = tuple(
        (max(0.0, 100 * (row["accuracy"] - r)), min(100.0, 100 * (row["accuracy"] + r)))
        for row, r in zip(rows, reach, strict=True)
    )
    return Series(name, points, ends)


def _roc(summary: Summary, decoded: Sequence[dict[str, Any]]) -> Plot:
    budgets = sorted({row["budget"] for row in decoded}, key=lambda budget: abs(budget - SHOWN_BYTES))
    chosen = {row["name"]: row for row in summary["rows"] if "codec" not in row}
    chosen |= {summary["titles"][r["codec"]]: r for r in decoded if r["budget"] == budgets[0]}
    series = tuple(
        Series(name, tuple((100 * far, 100 * tar) for far, tar in row["roc"])) for name, row in chosen.items()
    )
    note = f"Decoded pictures at {budgets[0]:,} bytes." if budgets else ""
    return Plot("ROC", "false accept rate in %", "true accept rate in %", series, True, note)


def _accuracy_table(summary: Summary) -> Table:
    rates = list(summary["rows"][0]["true_accept_rates"])
    rows = []
    for row in summary["rows"] + summary["codes"]:
        accuracy = f"{100 * row['accuracy']:.2f} +- {100 * row['standard_error']:.2f}"
        shares = [figure(row["true_accept_rates"][rate], ".2f", 100) for rate in rates]
        name = (
            f"{summary['titles'][row['codec']]}, {row['budget']:,} bytes" if "codec" in row else row["name"]
        )
        size, cosine = figure(row.get("bytes"), ".0f"), figure(row["mean_cosine"], ".3f")
        rows.append((name, size, accuracy, *shares, cosine, str(row["missing"])))
    heads = [f"TAR at FAR {100 * float(rate):g} %" for rate in rates]
    columns = ("embedding", "mean bytes", "accuracy, %", *heads, "mean cosine", "missing pictures")
    return Table("Figures of verification", columns, tuple(rows))


def _needed_table(needed: dict[str, Any], titles: dict[str, str]) -> Table:
    rows = []
    for codec, cells in needed["bytes"].items():
        shares = needed["percent"].get(codec, [None] * len(cells))
        for accuracy, cell, share in zip(needed["accuracies"], cells, shares, strict=True):
            rows.append(
                (titles[codec], f"{100 * accuracy:g}", _between(cell), _between(share) if share else "")
            )
    columns = ("codec", "accuracy, %", "bytes", "ours in % of it")
    note = (
        "Interpolated along the logarithm of bytes. In brackets 95 % of 1,000 bootstrap samples of the "
        "pairs, thresholds as they were. below: fewer bytes than were measured; beyond: not reached."
    )
    return Table("Bytes needed for an accuracy", columns, tuple(rows), note)


def _between(cell: dict[str, Any]) -> str:
    words = [f"{v:.0f}" if isinstance(v, float) else v or NOTHING for v in cell.values()]
    return f"{words[0]} ({words[1]} to {words[2]})"
