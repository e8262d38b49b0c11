"""What is seen of a face in the first bytes of a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from facecodec.evaluation.looks import Seen
from facecodec.evaluation.peers import OURS
from facecodec.evaluation.recognition import cosine


def report(seen: Sequence[Seen], budgets: Sequence[int]) -> dict[str, Any]:
    """Return means over the pictures with a face within each budget for JSON, None of none.

    ``psnr`` in dB of the whole picture and ``face_psnr`` of the recognition frame, ``cosine`` of the judge's
    embeddings of the decoded and the original face.
    """
    rows = []
    for budget in budgets:
        known = [(s, look) for s in seen if s.faces and (look := s.look(OURS, budget))]
        rows.append(
            {
                "budget": budget,
                "pictures": len(known),
                "bytes": _mean(look.size for _, look in known),
                "psnr": _mean(look.psnr for _, look in known),
                "face_psnr": _mean(look.face_psnr for _, look in known),
                "cosine": _mean(cosine(look.embedding, s.judged) for s, look in known),
            }
        )
    return {"pictures": len(seen), "without_face": [s.id for s in seen if not s.faces], "rows": rows}


def _mean(values: Iterable[float | None]) -> float | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else None
