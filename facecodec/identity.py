"""Who is in a file: its features, read from its first bytes without a network, and compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import base_layer, container, geometry, weights
from .container import Container
from .errors import FscError, UnsupportedError

MAX_PIXELS = 8192 * 8192
MAX_FACE_PIXELS = 1 << 31
"""Faces times pixels of a picture: what it may cost to place previews."""


@dataclass(frozen=True)
class Features:
    """Who is where: ``embeddings`` float32 (N, 256) of unit norm, ``boxes`` float32 (N, 4), ``landmarks``
    float32 (N, 5, 2); ``model`` names the weights that embeddings must share to be compared.

    Landmarks and boxes are in pixels from the picture's upper left corner; the centre of the first pixel is
    (0.5, 0.5).  Spec: "Landmarks and box".
    """

    embeddings: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32]
    model: str


@dataclass(frozen=True)
class Comparison:
    """Cosine ``similarity`` of the two most similar faces; ``same`` if it reaches ``threshold``, which lets
    ``false_match_rate`` of different people pass.
    """

    similarity: float
    same: bool
    threshold: float
    false_match_rate: float


VERDICT_RATE = 1e-3
"""The false match rate at which ``compare`` decides."""


def features(data: bytes) -> Features:
    """Return the faces of a file, of which the first bytes are enough; raises StreamError or WeightsError."""
    file = parsed(data)
    model = base_model(file)
    return features_of(file, faces_of(file, model), model)


def compare(a: bytes, b: bytes) -> Comparison:
    """Compare the faces of two files of one model, without running a network.

    Raises FscError if a file has no face or the models differ, and StreamError.
    """
    first, second = features(a), features(b)
    if first.model != second.model:
        raise FscError(f"embeddings of the models {first.model} and {second.model} cannot be compared")
    if not (len(first.embeddings) and len(second.embeddings)):
        raise FscError("a file without a face cannot be compared")
    similarity = float((first.embeddings.astype(np.float64) @ second.embeddings.T.astype(np.float64)).max())
    verdicts = base_layer.load(weights.named("base", bytes.fromhex(first.model))).verdicts / 1e6
    rows = verdicts[verdicts[:, 1] <= VERDICT_RATE * 1.0001]
    threshold, rate = (float(v) for v in (rows[0] if len(rows) else verdicts[-1]))
    return Comparison(similarity, similarity >= threshold, threshold, rate)


def parsed(data: bytes) -> Container:
    """Return the sections of a file; raises StreamError, and UnsupportedError for too many pixels."""
    file = container.parse(data)
    if file.width * file.height > MAX_PIXELS:
        raise UnsupportedError(f"a picture of {file.width}x{file.height} is larger than {MAX_PIXELS} pixels")
    return file


def base_model(file: Container) -> base_layer.BaseModel:
    """Return the model that wrote a file's base layer; raises WeightsError."""
    return base_layer.load(weights.named("base", file.weights_id))


def faces_of(file: Container, model: base_layer.BaseModel) -> base_layer.Faces:
    """Return the coded faces of a file; raises StreamError, and UnsupportedError for too many."""
    faces = base_layer.decode_faces(file.sections[0].payload, model)
    if len(faces.geometries) * file.width * file.height > MAX_FACE_PIXELS:
        raise UnsupportedError(
            f"{len(faces.geometries)} faces are too many for a picture of {file.width}x{file.height}"
        )
    return faces


def features_of(file: Container, faces: base_layer.Faces, model: base_layer.BaseModel) -> Features:
    """Return what the coded faces of a file say."""
    points = np.empty((len(faces.geometries), 5, 2), np.float32)
    boxes = np.empty((len(faces.geometries), 4), np.float32)
    for row, place in enumerate(faces.geometries):
        points[row], boxes[row] = geometry.landmarks_and_box(place, file.width, file.height)
    return Features(
        base_layer.embeddings(faces.identity),
        boxes,
        points,
        model.id.hex(),
    )
