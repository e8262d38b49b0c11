"""Rate and distortion: curves, tables, faces at equal bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from facecodec import files
from facecodec.evaluation import examples
from facecodec.evaluation.chapters.text import Summary, figure, pictures
from facecodec.evaluation.page import Image, Part, Plot, Section, Series, Slider, Strip, Table

MOST_GROUPS = 12
PLOTTED_GROUPS = 5


def distortion(summary: Summary, out: Path) -> Section:
    """Return curves, tables and example pictures of ``rd.json``."""
    titles, groups = summary["titles"], summary["groups"]
    by_size = sorted(groups.items(), key=lambda item: -item[1]["pictures"])
    parts: list[Part] = []
    for metric, title in (("psnr", "PSNR"), ("ms_ssim", "MS-SSIM")):
        for name, group in by_size[:PLOTTED_GROUPS]:
            plotted = group["plotted"][metric]
            series = tuple(
                Series(
                    titles[codec],
                    tuple((b, q) for b, q in zip(sizes, plotted["decibels"], strict=True) if b is not None),
                )
                for codec, sizes in plotted["bytes"].items()
            )
            count = f"{name}, {group['pictures']:,} pictures"
            note = "Mean bytes for at least so many dB, of the pictures that all codecs bring there."
            parts.append(
                Plot(f"{title}: {count}", "bytes of a whole file", f"{title} in dB", series, True, note)
            )
    parts += [_bytes_table(summary, name, group) for name, group in by_size[:MOST_GROUPS]]
    parts.append(_times_table(summary))
    parts += _examples(summary, out)
    text = (
        f"{pictures(summary)} Whole files count, headers and faces included. PSNR is over R, G and B. "
        "MS-SSIM is in dB, -10 log10(1 - MS-SSIM), with as many of its five scales as fit. Rate differences "
        "are Bjontegaard's, picture by picture over the range that both codecs reach, and then their mean; "
        "the range shown is the mean one."
    )
    return Section("Rate and distortion", text, tuple(parts))


def _bytes_table(summary: Summary, name: str, group: dict[str, Any]) -> Table:
    rows = []
    for codec, values in group["bytes"].items():
        cells = [summary["titles"][codec], *(figure(value, ".0f") for value in values)]
        rows.append((*cells, *(_rate(group["rate_difference"][m].get(codec)) for m in ("psnr", "ms_ssim"))))
    heads = ("codec", *(f"{target} dB" for target in summary["targets"]))
    counts = ", ".join(str(count) for count in group["compared"])
    return Table(
        f"Bytes for a PSNR: {name}, {group['pictures']:,} pictures",
        (*heads, "our rate against it, PSNR", "our rate against it, MS-SSIM"),
        tuple(rows),
        f"Means over the pictures that all codecs bring to this PSNR: {counts}.",
    )


def _rate(difference: dict[str, Any] | None) -> str:
    if not difference:
        return ""
    percent, low, high = (difference[key] for key in ("percent", "from_db", "to_db"))
    return f"{percent:+.1f} % ({low:.1f} to {high:.1f} dB, {difference['pictures']:,} pictures)"


def _times_table(summary: Summary) -> Table:
    rows = tuple(
        (summary["titles"][codec], f"{spent['encode']:.1f}", f"{spent['decode']:.1f}")
        for codec, spent in summary["groups"]["all"]["milliseconds"].items()
    )
    note = "Medians over all files, of processor time; of the clock for external commands."
    return Table("Time for a picture", ("codec", "encode, ms", "decode, ms"), rows, note)


def _examples(summary: Summary, out: Path) -> list[Part]:
    listed = out / f"{examples.NAME}.json"
    if not listed.is_file():
        return []
    kept = json.loads(files.read(listed))
    titles = summary["titles"]
    rows = []
    for row in kept["rows"]:
        cells = [Image(files.read(out / row["original"]), f"{row['id']}, original")]
        for codec, cell in row["codecs"].items():
            if cell and codec in titles:
                cells.append(Image(files.read(out / cell["file"]), f"{titles[codec]}, {_quality(cell)}"))
        rows.append(tuple(cells))
    slider = kept["slider"]
    frames = tuple(
        (float(frame["bytes"]), Image(files.read(out / frame["file"]), _quality(frame)))
        for frame in slider["frames"]
    )
    original = Image(files.read(out / slider["original"]), f"{slider['id']}, original")
    note = (
        "Each codec at its best quality within the bytes of the row; one without a file so small is left out."
    )
    return [
        Strip("Faces at equal bytes", tuple(rows), note),
        Slider("One file, cut anywhere", frames, original, "Every cut of the same stream decodes."),
    ]


def _quality(cell: dict[str, Any]) -> str:
    psnr = "exact" if cell["psnr"] is None else f"{cell['psnr']:.1f} dB"
    return f"{cell['bytes']:,} bytes, {psnr}"
