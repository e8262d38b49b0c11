"""The detector against labelled faces."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facecodec import faces
from facecodec.evaluation.pictures import Entry, Label, Pixels

SAME_FACE = 0.5
"""IoU from which a found face is the labelled one."""


@dataclass(frozen=True)
class Found:
    """What was found in one picture.

    ``hit``: one of the ``found`` faces is the first of the ``labelled``; ``first``: the first found is.
    ``error`` is the mean distance of its landmarks from the labels in eye distances, None without a hit.
    """

    labelled: int
    found: int
    hit: bool
    first: bool
    error: float | None
    milliseconds: float


def look(entry: Entry) -> Found:
    """Search the faces of one picture; raises ImageError and WeightsError."""
    return search(entry.pixels(), entry.labels or ())


def search(pixels: Pixels, labels: Sequence[Label]) -> Found:
    """Search the faces in uint8 RGB (H, W, 3); ``milliseconds`` is processor time."""
    start = time.process_time()
    found = faces.find(pixels)
    spent = 1000 * (time.process_time() - start)
    if not labels:
        return Found(0, len(found), False, False, None, spent)
    shared = [float(faces.iou(labels[0].box, face.box[None])[0]) for face in found]
    best = int(np.argmax(shared)) if shared else 0
    hit = bool(shared) and shared[best] >= SAME_FACE
    error = landmark_error(found[best], labels[0]) if hit else None
    return Found(len(labels), len(found), hit, hit and shared[0] >= SAME_FACE, error, spent)


def landmark_error(face: faces.Face, label: Label) -> float:
    """Return the mean distance of five landmarks from those of a label, in eye distances."""
    away = np.linalg.norm(face.landmarks - label.landmarks, axis=1).mean()
    return float(away / np.linalg.norm(label.landmarks[0] - label.landmarks[1]))


def report(looked: Sequence[Found]) -> dict[str, Any]:
    """Return the figures over all pictures for JSON.

    ``found`` and ``found_first`` are shares of the pictures with a label, ``with_faces`` of all: in which any
    face was found.  ``milliseconds`` is the median.
    """
    labelled = [found for found in looked if found.labelled]
    errors = [found.error for found in labelled if found.error is not None]
    return {
        "pictures": len(looked),
        "labelled": len(labelled),
        "found": float(np.mean([f.hit for f in labelled])) if labelled else None,
        "found_first": float(np.mean([f.first for f in labelled])) if labelled else None,
        "landmark_error": float(np.mean(errors)) if errors else None,
        "landmark_error_95": float(np.quantile(errors, 0.95)) if errors else None,
        "with_faces": float(np.mean([f.found > 0 for f in looked])),
        "faces": float(np.mean([f.found for f in looked])),
        "milliseconds": float(np.median([f.milliseconds for f in looked])),
    }
