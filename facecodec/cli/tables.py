"""Features as files for other programs: NumPy, JSON, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

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
    return _csv(features) if kind == "csv" else _dumped(list(_rows(features))) + b"\n"


def _npy(features: Named) -> bytes:
    models = sorted({found.model for _, found in features})
    if len(models) > 1:
        raise FscError(f"embeddings of the models {' and '.join(models)} do not belong in one array")
    buffer = io.BytesIO()
    embeddings = np.concatenate([found.embeddings for _, found in features])
    np.save(buffer, embeddings, allow_pickle=False)
    return buffer.getvalue()


def _rows(features: Named) -> Iterator[dict[str, Any]]:
    for file, found in features:
        faces = zip(found.boxes, found.landmarks, found.embeddings, strict=True)
        for face, (box, landmarks, embedding) in enumerate(faces):
            yield {
                "file": file,
                "face": face,
                "model": found.model,
                "box": box,
                "landmarks": landmarks,
                "embedding": embedding,
            }


def _csv(features: Named) -> bytes:
    dimensions = features[0][1].embeddings.shape[1] if features else 0
    points = [f"{axis}{i}" for i in range(1, 6) for axis in "xy"]
    names = ["file", "face", "model", "left", "top", "right", "bottom", *points]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=",")
    lines = [",".join([*names, *(f"e{i}" for i in range(dimensions))])]
    for row in _rows(features):
        writer.writerow([row["file"], row["face"], row["model"]])
        numbers = np.concatenate([row["box"], row["landmarks"].ravel(), row["embedding"]], dtype=np.float32)
        lines.append(text.getvalue() + _dumped(numbers)[1:-1].decode())
        text.seek(0)
        text.truncate()
    return "".join(f"{line}\n" for line in lines).encode()


def _dumped(values: Any) -> bytes:
    """Return JSON in which a float has no more digits than its own type can tell apart."""
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
