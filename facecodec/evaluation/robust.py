"""Verification from photographs that are worse than those of the set: all pictures degraded alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from facecodec.evaluation.degrade import TITLES
from facecodec.evaluation.looks import Seen
from facecodec.evaluation.pairs import Pairs
from facecodec.evaluation.verify import Verification


def report(seen: Sequence[Seen], pairs: Pairs) -> dict[str, Any]:
    """Return the figures of float embeddings and of codes by kind for JSON, cosines to the originals.

    Both pictures of a pair are degraded; faces are found again in the degraded pictures.
    """
    table = Verification(seen, pairs)
    floats, coded = [s.embedding for s in seen], [s.coded for s in seen]
    rows = [
        {"kind": "none", "title": "as they are"}
        | {
            "float": table.row("float", "photograph", floats),
            "codes": table.row("codes", "identity codes of the file", coded, floats),
        }
    ]
    for kind, title in TITLES.items():
        found = [(s.degraded or {}).get(kind) for s in seen]
        rows.append(
            {"kind": kind, "title": title}
            | {
                "float": table.row(f"{kind}, float", title, [f[0] if f else None for f in found], floats),
                "codes": table.row(f"{kind}, codes", title, [f[1] if f else None for f in found], coded),
            }
        )
    return {
        "pairs": len(pairs.ids),
        "pictures": len(seen),
        "without_face": [s.id for s in seen if not s.faces],
        "rows": rows,
    }
