"""Features as files for other programs: NumPy, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from facecodec.errors import FscError

if TYPE_CHECKING:
    from facecodec import Features

Named = Sequence[tuple[str, "Features"]]


def dump(features: Named, kind: str) -> bytes:
    """Return the faces of named files, in order, as ``npy``, ``json`` or ``csv``.

    ``npy`` is one float32 (faces, dimensions) array and holds one model only: FscError otherwise.
    """
    if kind == "npy":
        return _npy(features)
    rows = list(_rows(features))
    return _csv(rows).encode() if kind == "csv" else (json.dumps(rows) + "\n").encode()


def _npy(features: Named) -> bytes:
    models = sorted({found.model for _, found in features})
    if len(models) > 1:
        raise FscError(f"embeddings of the models {' and '.join(models)} do not belong in one array")
    buffer = io.BytesIO()
    embeddings = np.concatenate([found.embeddings for _, found in features])
    np.save(buffer, embeddings.astype(np.float32), allow_pickle=False)
    return buffer.getvalue()


def _rows(features: Named) -> Iterator[dict[str, Any]]:
    for file, found in features:
        faces = zip(found.boxes, found.landmarks, found.embeddings, strict=True)
        for face, (box, landmarks, embedding) in enumerate(faces):
            yield {
                "file": file,
                "face": face,
                "model": found.model,
                "box": _numbers(box),
                "landmarks": _numbers(landmarks),
                "embedding": _numbers(embedding),
            }


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    dimensions = len(rows[0]["embedding"]) if rows else 0
    points = [f"{axis}{i}" for i in range(1, 6) for axis in "xy"]
    embedding = [f"e{i}" for i in range(dimensions)]
    writer.writerow(["file", "face", "model", "left", "top", "right", "bottom", *points, *embedding])
    for row in rows:
        landmarks = [value for point in row["landmarks"] for value in point]
        writer.writerow([row["file"], row["face"], row["model"], *row["box"], *landmarks, *row["embedding"]])
    return buffer.getvalue()


def _numbers(values: Any) -> Any:
    """Return floats with no more digits than their own type can tell apart."""
    return np.asarray(values).astype("U32").astype(float).tolist()
