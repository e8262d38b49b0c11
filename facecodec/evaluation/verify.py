"""Verification: who is told apart by embeddings, by codes of files, and by a judge of decoded pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from facecodec.evaluation import codes, rates, recognition
from facecodec.evaluation.looks import Look, Seen, matrix
from facecodec.evaluation.pairs import Pairs
from facecodec.evaluation.peers import OURS

Floats = npt.NDArray[np.float32]

FALSE_ACCEPT_RATES = (1e-2, 1e-3, 1e-4)
ACCURACIES = (0.90, 0.95, 0.97, 0.98, 0.99)
"""For which the bytes needed are reported."""

INTERVAL = (2.5, 97.5)
"""Percentiles of a bootstrap interval."""


class Verification:
    """Rows of figures over the same pairs of the same pictures; ``right`` keeps their decisions."""

    def __init__(self, seen: Sequence[Seen], pairs: Pairs) -> None:
        self._row = {s.id: row for row, s in enumerate(seen)}
        self._pairs = pairs
        people = [recognition.person(s.id) for s in seen]
        self._people = [p for p in people if p is not None] if None not in people else None
        self.right: dict[str, npt.NDArray[np.bool_]] = {}

    def row(
        self,
        name: str,
        origin: str,
        embeddings: Sequence[Floats | None],
        originals: Sequence[Floats | None] | None = None,
    ) -> dict[str, Any]:
        """Return the figures of embeddings, one a picture; ``originals`` are those of the undamaged ones."""
        found, pairs = matrix(embeddings), self._pairs
        first, second = (found[[self._row[pair[side]] for pair in pairs.ids]] for side in (0, 1))
        cosines = recognition.cosines(first, second)
        right = recognition.decisions(cosines, pairs.same, pairs.folds)
        self.right[name] = right
        accuracy, error = recognition.accuracy(right, pairs.folds)
        if self._people:
            genuine, impostor = recognition.all_pairs(found, self._people)
        else:
            genuine, impostor = (recognition.histogram(cosines[kind]) for kind in (pairs.same, ~pairs.same))
        kept = recognition.cosines(found, matrix(originals)) if originals else np.array([np.nan])
        return {
            "name": name,
            "from": origin,
            "missing": sum(e is None for e in embeddings),
            "accuracy": accuracy,
            "standard_error": error,
            "true_accept_rates": {
                f"{rate:g}": recognition.true_accept_rate(genuine, impostor, rate)
                for rate in FALSE_ACCEPT_RATES
            },
            "mean_cosine": None if np.isnan(kept).all() else float(np.nanmean(kept)),
            "roc": recognition.roc(genuine, impostor),
        }


def report(
    seen: Sequence[Seen], pairs: Pairs, names: Sequence[str], budgets: Sequence[int]
) -> dict[str, Any]:
    """Return the figures over all pairs as numbers and text for JSON; ``names`` are those of all codecs."""
    single = [s for s in seen if s.faces == 1]
    floats = [s.embedding for s in seen]
    table = Verification(seen, pairs)
    rows = [
        table.row("float embedding", "photograph", floats),
        table.row("decoded codes", "identity codes of the file", [s.coded for s in seen], floats),
    ]
    judged, points = [s.judged for s in seen], []
    if any(embedding is not None for embedding in judged):
        rows.append(table.row("judge, original", "photograph, by the judge", judged))
        for name in names:
            for budget in budgets:
                looks = [s.look(name, budget) for s in seen]
                row = _judged(table, name, budget, looks, judged)
                points.append(row)
                rows.append(row)
    return {
        "pairs": len(pairs.ids),
        "pictures": len(seen),
        "without_face": [s.id for s in seen if not s.faces],
        "one_face": len(single),
        "identity_bytes": _spread([s.identity_bytes for s in single]),
        "base_bytes": _spread([s.base_bytes for s in single]),
        "rows": rows,
        "codes": codes.curve(floats, table),
        "needed": _needed(points, table.right, pairs) if points else None,
    }


def _judged(
    table: Verification,
    name: str,
    budget: int,
    looks: Sequence[Look | None],
    judged: Sequence[Floats | None],
) -> dict[str, Any]:
    embeddings = [look.embedding if look else None for look in looks]
    origin = "decoded picture re-embedded by the judge"
    there = [look for look in looks if look]
    psnr = [look.psnr for look in there if math.isfinite(look.psnr)]
    return table.row(f"{name}, {budget} bytes", origin, embeddings, judged) | {
        "codec": name,
        "budget": budget,
        "bytes": float(np.mean([look.size for look in there])) if there else None,
        "psnr": float(np.mean(psnr)) if psnr else None,
        "without_file": len(looks) - len(there),
    }


def _spread(values: list[int]) -> dict[str, float] | None:
    return {"mean": float(np.mean(values)), "max": max(values)} if values else None


def _needed(
    points: Sequence[dict[str, Any]], right: dict[str, npt.NDArray[np.bool_]], pairs: Pairs
) -> dict[str, Any]:
    """Return the bytes each codec needs for an accuracy, and ours in per cent of theirs, with intervals."""
    needed = {}
    for name in dict.fromkeys(row["codec"] for row in points):
        mine = [row for row in points if row["codec"] == name and row["bytes"]]
        decisions = np.array([right[row["name"]] for row in mine]).reshape(-1, len(pairs.ids))
        sizes = [row["bytes"] for row in mine]
        drawn = recognition.resampled(decisions, pairs.same)
        needed[name] = np.array([_bytes(sizes, row) for row in [decisions.mean(1), *drawn]])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = {name: 100 * needed[OURS] / of for name, of in needed.items() if name != OURS}
    return {
        "accuracies": list(ACCURACIES),
        "bytes": {name: [interval(column) for column in of.T] for name, of in needed.items()},
        "percent": {name: [interval(column) for column in of.T] for name, of in ratios.items()},
    }


def _bytes(sizes: Sequence[float], accuracies: npt.NDArray[np.float64]) -> list[float]:
    """Return the interpolated bytes for each of ACCURACIES, infinite where the largest file is not enough.

    Where the smallest is more than enough, 0: nothing was measured below it.
    """
    curve = rates.curve(zip(sizes, accuracies, strict=True))
    if not len(curve[0]):
        return [math.inf] * len(ACCURACIES)
    return [0.0 if a < curve[1][0] else rates.bytes_for(curve, a) for a in ACCURACIES]


def interval(values: npt.NDArray[np.float64]) -> dict[str, float | str | None]:
    """Return the first value, and the bootstrap interval of the others.

    Words stand for 0, "below" what was measured, and for infinity, "beyond" it; None for what is unknown.
    """
    known = np.sort(values[1:][~np.isnan(values[1:])])
    ends = [known[round(q / 100 * (len(known) - 1))] if len(known) else math.nan for q in INTERVAL]
    return {key: _word(float(v)) for key, v in zip(("value", "low", "high"), (values[0], *ends), strict=True)}


def _word(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "beyond"
    return value or "below"
