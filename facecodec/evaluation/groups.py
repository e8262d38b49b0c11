"""What compression does to whom: false matches and false non-matches of groups at one global threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from facecodec.errors import FscError
from facecodec.evaluation import recognition
from facecodec.evaluation.degrade import TITLES
from facecodec.evaluation.looks import Seen, matrix
from facecodec.evaluation.pictures import Entry

Floats = npt.NDArray[np.float32]
Version = Callable[[Seen], Floats | None]

FALSE_MATCH_RATE = 1e-3
LEAST = 2
"""Pictures that make a group."""


def having(entries: Sequence[Entry], column: str) -> list[Entry]:
    """Return the pictures that have a label in a column; raises FscError if none has."""
    found = [entry for entry in entries if column in entry.tags]
    if not found:
        known = sorted({key for entry in entries for key in entry.tags})
        raise FscError(f"no picture has a label {column!r}; there are {', '.join(known) or 'none at all'}")
    return found


def labelled(tags: Sequence[dict[str, str]], column: str, bands: Sequence[float] = ()) -> list[str]:
    """Return the group of each picture: its label in a column, or the band of its number there.

    Bands of 20, 40 are "below 20", "20 to 40" and "40 and above".  Raises FscError.
    """
    values = [tag[column] for tag in tags]
    if not bands:
        return values
    edges = sorted(bands)
    titles = [
        f"below {edges[0]:g}",
        *(f"{low:g} to {high:g}" for low, high in pairwise(edges)),
        f"{edges[-1]:g} and above",
    ]
    try:
        return [titles[int(np.searchsorted(edges, float(value), "right"))] for value in values]
    except ValueError as error:
        raise FscError(f"the label {column!r} is not a number everywhere: {error}") from error


def report(
    seen: Sequence[Seen], groups: Sequence[str], names: Sequence[str], budgets: Sequence[int]
) -> dict[str, Any]:
    """Return the rates of each group by version of its pictures, as numbers and text for JSON.

    ``groups`` (n,) are the labels of the pictures, ``names`` those of all codecs.  A false match is a pair of
    different pictures of a group, of different people as far as ids say, at or above the threshold; a false
    non-match is a version of a picture below it when compared with its original.  The threshold lets
    FALSE_MATCH_RATE of all pairs of originals of the whole set pass: one for our codes, one for the judge.
    """
    found = [row for row, s in enumerate(seen) if s.coded is not None]
    kept, labels = [seen[row] for row in found], [groups[row] for row in found]
    counts = {label: labels.count(label) for label in sorted(set(labels))}
    counts = {label: count for label, count in counts.items() if count >= LEAST}
    if not counts:
        raise FscError("no group has two pictures with a face")
    people = [recognition.person(s.id) or s.id for s in kept]

    def codes(kind: str) -> Version:
        return lambda s: found[1] if (found := (s.degraded or {}).get(kind)) else None

    def looked(name: str, budget: int) -> Version:
        return lambda s: look.embedding if (look := s.look(name, budget)) else None

    versions: dict[str, list[tuple[dict[str, Any], Version]]] = {
        "codes": [
            ({"name": "original"}, lambda s: s.coded),
            *(({"name": kind, "title": title}, codes(kind)) for kind, title in TITLES.items()),
        ]
    }
    if any(s.judged is not None for s in kept):
        versions["judge"] = [
            ({"name": "original"}, lambda s: s.judged),
            *(
                ({"name": f"{name}, {budget} bytes", "codec": name, "budget": budget}, looked(name, budget))
                for name in names
                for budget in budgets
            ),
        ]
    return {
        "pictures": len(seen),
        "without_face": [s.id for s in seen if not s.faces],
        "groups": counts,
        "false_match_rate": FALSE_MATCH_RATE,
        "by": {by: _compared(kept, labels, list(counts), people, rows) for by, rows in versions.items()},
    }


def _compared(
    seen: Sequence[Seen],
    labels: Sequence[str],
    groups: Sequence[str],
    people: Sequence[str],
    versions: Sequence[tuple[dict[str, Any], Version]],
) -> dict[str, Any]:
    originals = matrix([versions[0][1](s) for s in seen])
    threshold = recognition.limit(recognition.all_pairs(originals, people)[1], FALSE_MATCH_RATE)
    if threshold is None:
        return {"threshold": None, "rows": []}
    rows = []
    for title, version in versions:
        found = matrix([version(s) for s in seen])
        if found.shape != originals.shape:
            found = np.full_like(originals, np.nan)
        cosines = recognition.cosines(found, originals)
        by_group = {}
        for group in groups:
            here = [row for row, label in enumerate(labels) if label == group]
            impostor = recognition.all_pairs(found[here], [people[i] for i in here])[1]
            kept = cosines[here]
            by_group[group] = {
                "false_match_rate": recognition.above(impostor, threshold),
                "false_non_match_rate": float(np.mean(~(kept >= threshold))),
                "mean_cosine": None if np.isnan(kept).all() else float(np.nanmean(kept)),
                "missing": int(np.isnan(kept).sum()),
            }
        rows.append(title | {"groups": by_group, "largest_gap": _gaps(list(by_group.values()))})
    return {"threshold": threshold, "rows": rows}


def _gaps(figures: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return by how much the groups differ at most."""
    gaps = {}
    for key in ("false_match_rate", "false_non_match_rate", "mean_cosine"):
        known = [figure[key] for figure in figures if figure[key] is not None]
        gaps[key] = max(known) - min(known) if known else 0.0
    return gaps
