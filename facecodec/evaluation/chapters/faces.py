"""Faces in 1,024 bytes, in the first bytes of a file, from bad photographs, and whether they are found."""

from __future__ import annotations

from pathlib import Path

from facecodec.evaluation.chapters.text import NOTHING, OWN, Summary, figure, pictures, variant
from facecodec.evaluation.page import Bars, Part, Plot, Section, Series, Table


def thousand(summary: Summary, out: Path) -> Section:
    """Return the table and the bars of ``faces1024.json``."""
    titles, budget = summary["titles"], summary["budget"]
    rows = []
    for row in summary["rows"]:
        recognised = row.get("recognition") or {}
        used = max(row["variants"].items(), key=lambda item: item[1])[0] if row["bytes"] else NOTHING
        rows.append(
            (
                titles[row["codec"]],
                figure(row["psnr"], ".2f"),
                figure(row["ms_ssim"], ".4f"),
                used,
                str(row["without_file"]),
                figure(recognised.get("accuracy"), ".2f", 100),
                figure(recognised.get("mean_cosine"), ".3f"),
                recognised.get("variant", NOTHING),
            )
        )
    columns = ("codec", "PSNR, dB", "MS-SSIM", "mostly as", "without a file", "accuracy, %", "cosine", "as")
    parts: list[Part] = [Table(f"The best within {budget:,} bytes", columns, tuple(rows))]
    names = tuple(titles[row["codec"]] for row in summary["rows"])
    psnr = tuple((float(i), row["psnr"]) for i, row in enumerate(summary["rows"]) if row["psnr"] is not None)
    parts.append(Bars(f"Best picture within {budget:,} bytes", "PSNR in dB", names, (Series("PSNR", psnr),)))
    original = summary["original_accuracy"]
    judged = f" Uncompressed, the judge is right in {100 * original:.2f} %." if original is not None else ""
    judged += OWN if summary["judge"] == "own" else ""
    text = (
        f"{pictures(summary)} Each codec takes its best quality within {budget:,} bytes of a whole file. The "
        "others may reduce the picture or drop its colour: of each picture the variant of the highest PSNR "
        "counts, and for recognition the one variant of all pictures that is recognised best. Our files hold "
        "the embedding too."
        f"{judged}"
    )
    return Section(f"Faces in {budget:,} bytes", text, tuple(parts))


def previews(summary: Summary, out: Path) -> Section:
    """Return the table and the curves of ``previews.json``."""
    columns = ("at most, bytes", "bytes", "pictures", "picture, dB", "face, dB", "cosine")
    rows = tuple(
        (
            f"{row['budget']:,}",
            figure(row["bytes"], ".1f"),
            f"{row['pictures']:,}",
            figure(row["psnr"], ".2f"),
            figure(row["face_psnr"], ".2f"),
            figure(row["cosine"], ".3f"),
        )
        for row in summary["rows"]
    )
    parts: list[Part] = [Table("The first bytes", columns, rows)]
    for title, axis, key in (
        ("The face", "PSNR in dB", "face_psnr"),
        ("Who it is", "cosine of the judge", "cosine"),
    ):
        points = tuple((row["bytes"], row[key]) for row in summary["rows"] if row[key] is not None)
        if points:
            parts.append(Plot(title, "bytes", axis, (Series("fsc", points),)))
    coded, kind = variant(summary)
    text = (
        f"{pictures(summary)}{coded} Each file is cut to so many bytes; the face is its recognition frame. "
        "The cosine is that of the judge's embeddings of the decoded and the original face."
        f"{OWN if summary['judge'] == 'own' else ''}"
    )
    return Section(f"First bytes{kind}", text, tuple(parts))


def robust(summary: Summary, out: Path) -> Section:
    """Return the table and the bars of ``robust.json``."""
    kinds = (("float", "float embedding"), ("codes", "decoded codes"))
    rows = []
    for row in summary["rows"]:
        for kind, title in kinds:
            of = row[kind]
            lost = 100 * (summary["rows"][0][kind]["accuracy"] - of["accuracy"])
            share = figure(of["true_accept_rates"]["0.001"], ".2f", 100)
            figures = (f"{100 * of['accuracy']:.2f}", f"{lost:.2f}", share, figure(of["mean_cosine"], ".3f"))
            rows.append((row["title"], title, *figures, str(of["missing"])))
    columns = (
        "pictures",
        "embedding",
        "accuracy, %",
        "points lost",
        "TAR at FAR 0.1 %",
        "cosine",
        "not found",
    )
    series = tuple(
        Series(title, tuple((float(i), 100 * row[kind]["accuracy"]) for i, row in enumerate(summary["rows"])))
        for kind, title in kinds
    )
    groups = tuple(row["kind"] for row in summary["rows"])
    text = (
        f"{summary['pairs']:,} pairs. {pictures(summary)} Both pictures of a pair are degraded alike, and "
        "faces are found in them anew; a face that is not found is an error."
    )
    table = Table("Accuracy from bad photographs", columns, tuple(rows))
    return Section("Bad photographs", text, (Bars("Accuracy", "accuracy in %", groups, series), table))


def detection(summary: Summary, out: Path) -> Section:
    """Return the table of ``faces.json``."""
    rows = (
        ("right face found, %", figure(summary["found"], ".2f", 100)),
        ("and it comes first, %", figure(summary["found_first"], ".2f", 100)),
        ("landmark error, mean, % of the eye distance", figure(summary["landmark_error"], ".2f", 100)),
        ("95 % of landmark errors are below", figure(summary["landmark_error_95"], ".2f", 100)),
        ("faces found in a picture", f"{summary['faces']:.2f}"),
        ("milliseconds of processor time, median", f"{summary['milliseconds']:.1f}"),
    )
    return Section("Finding faces", pictures(summary), (Table("The detector", ("figure", ""), rows),))
