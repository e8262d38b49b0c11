"""Figures picture by picture as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from facecodec.evaluation.looks import Seen
from facecodec.evaluation.recognition import cosine


def looks(seen: Sequence[Seen]) -> str:
    """Return every decoded picture; ``cosine`` is between the judge's embeddings of it and the original."""
    head = ["id", "faces", "identity_bytes", "base_bytes", "codec", "variant", "budget", "bytes"]
    rows = []
    for s in seen:
        picture = [s.id, s.faces, s.identity_bytes, s.base_bytes]
        rows.append(
            [*picture, "float embedding", "", "", "", "", "", _shown(cosine(s.embedding, s.coded)), ""]
        )
        for k in s.looks:
            cosines = _shown(cosine(k.embedding, s.judged))
            figures = [k.size, f"{k.psnr:.4f}", f"{k.ms_ssim:.6f}", cosines, _shown(k.face_psnr)]
            rows.append([*picture, k.codec, k.variant, k.budget, *figures])
    return written([*head, "psnr", "ms_ssim", "cosine", "face_psnr"], rows)


def degraded(seen: Sequence[Seen]) -> str:
    """Return every degraded picture; cosines are those to the original, empty where no face was found."""
    rows = []
    for s in seen:
        for kind, found in (s.degraded or {}).items():
            pair = found or (None, None)
            rows.append([s.id, kind, _shown(cosine(pair[0], s.embedding)), _shown(cosine(pair[1], s.coded))])
    return written(["id", "degraded", "float_cosine", "codes_cosine"], rows)


def groups(result: dict[str, Any]) -> str:
    """Return the rates of each group by each version of its pictures."""
    figures = ["false_match_rate", "false_non_match_rate", "mean_cosine", "missing"]
    rows = [
        [by, row["name"], group, *("" if of[figure] is None else of[figure] for figure in figures)]
        for by, compared in result["by"].items()
        for row in compared["rows"]
        for group, of in row["groups"].items()
    ]
    return written(["by", "version", "group", *figures], rows)


def written(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a CSV file."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return buffer.getvalue()


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
