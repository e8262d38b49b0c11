"""Verification through the whole pipeline: from photographs to embeddings, files, decoded pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facecodec import codec, encoder, faces
from facecodec.errors import FscError
from facecodec.evaluation import judges, recognition
from facecodec.evaluation.pairs import Pairs
from facecodec.evaluation.pictures import Entry

Floats = npt.NDArray[np.float32]

FALSE_ACCEPT_RATE = 1e-3


@dataclass(frozen=True, eq=False)
class Seen:
    """One picture after coding: the face in question, None where none was found, and what its file weighs.

    ``embedding`` is the float one and ``coded`` that of the file, (256,).  ``judged`` (1 + budgets, D) are
    the judge's, of the original and of its decoded versions, NaN where a budget is too small for a file.
    ``identity_bytes`` and ``base_bytes`` are those of the base-only file with its ``faces`` faces.
    """

    id: str
    faces: int
    identity_bytes: int
    base_bytes: int
    embedding: Floats | None = None
    coded: Floats | None = None
    judged: Floats | None = None


def see(entry: Entry, *, judge: Path | None = None, budgets: Sequence[int] = ()) -> Seen:
    """Find, encode and decode one picture; ``budgets`` are sizes of whole files that the judge looks at."""
    pixels = entry.pixels()
    full = encoder.encode(pixels, quality=100, no_face="encode", layers="full" if budgets else "base")
    base = codec.strip(full, "base")
    found = codec.features(base)
    identity = sum(part.size for part in codec.info(base).parts if part.name == "identity codes")
    if not len(found.boxes):
        return Seen(entry.id, 0, identity, len(base))
    face = _foremost(found.boxes.astype(np.float64), pixels.shape[1], pixels.shape[0])
    judged = None
    if judge:
        judged = _judged(judge, full, pixels, found.landmarks[face].astype(np.float64), budgets)
    return Seen(
        entry.id,
        len(found.boxes),
        identity,
        len(base),
        encoder.embed(pixels)[face],
        found.embeddings[face],
        judged,
    )


def _foremost(boxes: npt.NDArray[np.float64], width: int, height: int) -> int:
    """Return which face a picture is of: the largest, less twice its squared distance from the middle."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    away = (boxes[:, 2:] + boxes[:, :2]) / 2 - np.array([width, height]) / 2
    return int(np.argmax(area - 2 * (away**2).sum(1)))


def _judged(
    judge: Path, full: bytes, pixels: codec.Pixels, landmarks: npt.NDArray[np.float64], budgets: Sequence[int]
) -> Floats:
    """Return the judge's embeddings, all aligned by the landmarks that were found in the original."""
    matrix = faces.similarity(landmarks - 0.5)
    versions, rows = [pixels], [0]
    for row, budget in enumerate(budgets, 1):
        try:
            short = codec.truncate(full, budget)
        except FscError:
            continue
        versions.append(codec.decode(short).pixels)
        rows.append(row)
    known = judges.load(judge).embed(versions, matrix)
    judged = np.full((1 + len(budgets), known.shape[1]), np.nan, np.float32)
    judged[rows] = known
    return judged


def report(seen: Sequence[Seen], pairs: Pairs, budgets: Sequence[int] = ()) -> dict[str, Any]:
    """Return the figures of all pictures that ``pairs`` name, as numbers and text for JSON.

    ``rows`` hold, for each kind of embedding, where it comes from, its accuracy by ten folds and the standard
    error of that, its true accept rate, and its mean cosine to the embedding that the same network gives the
    original.  Bytes are those of pictures with exactly one face.
    """
    single = [s for s in seen if s.faces == 1]
    rows = [
        _row("float embedding", "photograph", [s.embedding for s in seen], None, seen, pairs),
        _row(
            "decoded features",
            "identity codes of the file",
            [s.coded for s in seen],
            [s.embedding for s in seen],
            seen,
            pairs,
        ),
    ]
    if any(s.judged is not None for s in seen):
        columns = [[None if s.judged is None else s.judged[i] for s in seen] for i in range(1 + len(budgets))]
        rows.append(_row("judge, original", "photograph, by the judge", columns[0], None, seen, pairs))
        for budget, column in zip(budgets, columns[1:], strict=True):
            name, origin = f"judge, {budget} bytes", "decoded picture re-embedded by the judge"
            rows.append(_row(name, origin, column, columns[0], seen, pairs) | {"bytes": budget})
    return {
        "pairs": len(pairs.ids),
        "pictures": len(seen),
        "without_face": [s.id for s in seen if not s.faces],
        "one_face": len(single),
        "false_accept_rate": FALSE_ACCEPT_RATE,
        "identity_bytes": _spread([s.identity_bytes for s in single]),
        "base_bytes": _spread([s.base_bytes for s in single]),
        "rows": rows,
    }


def _spread(values: list[int]) -> dict[str, float] | None:
    return {"mean": float(np.mean(values)), "max": max(values)} if values else None


def _row(
    name: str,
    origin: str,
    embeddings: list[Floats | None],
    originals: list[Floats | None] | None,
    seen: Sequence[Seen],
    pairs: Pairs,
) -> dict[str, Any]:
    matrix = _stacked(embeddings)
    row = {s.id: i for i, s in enumerate(seen)}
    first, second = (matrix[[row[pair[side]] for pair in pairs.ids]] for side in (0, 1))
    accuracy, error = recognition.accuracy(recognition.cosines(first, second), pairs.same, pairs.folds)
    kept = None
    if originals:
        cosines = recognition.cosines(matrix, _stacked(originals))
        kept = float(np.nanmean(cosines)) if not np.isnan(cosines).all() else None
    return {
        "name": name,
        "from": origin,
        "accuracy": accuracy,
        "standard_error": error,
        "true_accept_rate": recognition.true_accept_rate(
            matrix, [recognition.person(s.id) for s in seen], FALSE_ACCEPT_RATE
        ),
        "mean_cosine": kept,
    }


def _stacked(embeddings: list[Floats | None]) -> Floats:
    """Return embeddings (n, d), NaN for those that are missing."""
    width = next((len(e) for e in embeddings if e is not None), 1)
    return np.array([np.full(width, np.nan) if e is None else e for e in embeddings], np.float32)
