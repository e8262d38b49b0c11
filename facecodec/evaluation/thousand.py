"""The 1,024-byte test: the best picture and the best accuracy that each codec reaches in so many bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from facecodec.evaluation.looks import Look, Seen
from facecodec.evaluation.pairs import Pairs
from facecodec.evaluation.peers import AS_IT_IS, OURS, Variant
from facecodec.evaluation.recognition import cosine
from facecodec.evaluation.verify import Verification

BUDGET = 1024
VARIANTS = tuple(Variant(scale, grey) for scale in (1.0, 0.75, 0.5, 0.35) for grey in (False, True))
"""What the other codecs may do to a picture to fit."""


def report(
    seen: Sequence[Seen], names: Sequence[str], budget: int, pairs: Pairs | None = None
) -> dict[str, Any]:
    """Return the figures of each codec for JSON.

    Best picture: of each picture the variant with the highest PSNR, and means over the pictures.  Best
    accuracy: of all pictures in one variant, that with the highest accuracy, or without ``pairs`` the highest
    mean cosine of the judge.
    """
    judged = [s.judged for s in seen]
    rows = []
    table = Verification(seen, pairs) if pairs else None
    for name in names:
        variants = [AS_IT_IS] if name == OURS else VARIANTS
        best = [_best([k for k in s.looks if k.codec == name and k.budget == budget]) for s in seen]
        there = [look for look in best if look]
        psnr = [look.psnr for look in there if math.isfinite(look.psnr)]
        row: dict[str, Any] = {
            "codec": name,
            "without_file": len(best) - len(there),
            "bytes": float(np.mean([look.size for look in there])) if there else None,
            "psnr": float(np.mean(psnr)) if psnr else None,
            "ms_ssim": float(np.mean([look.ms_ssim for look in there])) if there else None,
            "variants": {v.title: sum(look.variant == v.title for look in there) for v in variants},
        }
        if any(embedding is not None for embedding in judged):
            recognised = [_recognised(seen, name, budget, variant, table) for variant in variants]
            row["recognition"] = max(recognised, key=lambda r: (r["accuracy"] or 0, r["mean_cosine"] or -1))
        rows.append(row)
    original = table.row("judge, original", "photograph", judged)["accuracy"] if table else None
    return {
        "pictures": len(seen),
        "budget": budget,
        "pairs": len(pairs.ids) if pairs else None,
        "original_accuracy": original,
        "without_face": [s.id for s in seen if not s.faces],
        "rows": rows,
    }


def _best(looks: Sequence[Look]) -> Look | None:
    return max(looks, key=lambda look: look.psnr, default=None)


def _recognised(
    seen: Sequence[Seen], name: str, budget: int, variant: Variant, table: Verification | None
) -> dict[str, Any]:
    looks = [s.look(name, budget, variant.title) for s in seen]
    embeddings = [look.embedding if look else None for look in looks]
    if table:
        row = table.row(f"{name}, {variant.title}", "decoded", embeddings, [s.judged for s in seen])
        accuracy, mean = row["accuracy"], row["mean_cosine"]
    else:
        found = [cosine(e, s.judged) for e, s in zip(embeddings, seen, strict=True)]
        known = [value for value in found if value is not None]
        accuracy, mean = None, float(np.mean(known)) if known else None
    return {
        "variant": variant.title,
        "accuracy": accuracy,
        "mean_cosine": mean,
        "without_file": sum(look is None for look in looks),
    }
