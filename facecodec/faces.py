"""Find faces and five landmarks, and cut aligned frames out of a picture (free side)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from . import weights

if TYPE_CHECKING:
    from .networks.detector import Detector

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

FRAME = 112
TEMPLATE = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)
"""Left eye, right eye, nose tip, mouth corners (as seen) in the 112x112 ArcFace frame."""

CELL = 32
"""The network looks at whole cells of so many pixels a side."""

LARGEST_SIDE = 640
SMALLEST_SIDE = 128
"""Pictures are reduced or enlarged until their long side is within these before faces are searched."""

MILD = 0.75
"""A reduction from which on pixels need not be averaged over areas, which takes 2 ms."""

LEAST_CANDIDATE, LEAST_SCORE = 0.4, 0.6
"""Scores from which a candidate of the first look is looked at again, and is a face after both."""

SAME_FACE, SAME_VIEW = 0.4, 0.6
"""IoU from which two candidates are one face, and agree enough to be averaged."""

CLOSE_PIXELS = 128
CLOSE_EXTENT = 128.0
"""The second look at each face: pixels a side, and the side in frame units."""

CLOSE_TOGETHER = 16
"""Second looks taken at once: one by one takes longer, all at once any memory."""

CENTRED = 2.0
"""What a squared pixel off the picture's centre costs a face, in pixels of area, when faces are ranked."""

UPRIGHT = 0.35
"""Tilt (radians) up to which the first look's landmarks are as good as the second's."""

WIDE_PIXELS = 64
WIDE_EXTENT = 160.0


@dataclass(frozen=True)
class Face:
    """A face in a picture, in its pixels; pixel centres are whole numbers.

    ``box`` float64 (4,): x0, y0, x1, y1, possibly outside the picture.  ``landmarks`` float64 (5, 2):
    left eye, right eye, nose tip, left and right mouth corner, as seen.  ``score`` 0..1.
    """

    box: Floats
    landmarks: Floats
    score: float


def find(pixels: Pixels) -> list[Face]:
    """Return the faces in uint8 RGB (H, W, 3) ``pixels``; the same faces for the same pixels.

    The face that the picture is of comes first: a large one, near its centre.  Every candidate found,
    seen at 640 pixels a side or less, is looked at again upright, at a standard size and in full resolution.
    Raises WeightsError if the detector's weights are missing or damaged.
    """
    network = _network(weights.folder(), weights.newest("detector"))
    candidates, scale = _searched(network, pixels)
    faces = _looked_at_again(network, pixels, candidates, scale)
    extent = np.array(pixels.shape[1::-1]) - 0.5

    def prominence(face: Face) -> float:
        inside = np.clip(face.box.reshape(2, 2), -0.5, extent)
        away = inside.mean(0) - (extent - 0.5) / 2
        return float((inside[1] - inside[0]).prod() - CENTRED * away @ away)

    return sorted((face for face in faces if face.score >= LEAST_SCORE), key=prominence, reverse=True)


@cache
def _network(_where: Path, name: str) -> Detector:
    """Return the detector ``name`` of the folder in use; built once for each folder and name."""
    from .networks.detector import load_detector

    return load_detector(weights.load(name).tensors)


def _searched(network: Detector, pixels: Pixels) -> tuple[list[Face], float]:
    """Return the candidates found in one look at the whole picture, and its reduction for that look."""
    import cv2

    from .networks.detector import predict

    height, width = pixels.shape[:2]
    longest = max(height, width)
    scale = min(max(longest, SMALLEST_SIDE), LARGEST_SIDE) / longest
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrinking = cv2.INTER_AREA if scale < MILD else cv2.INTER_LINEAR
    filtering = shrinking if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(pixels, size, interpolation=filtering) if scale != 1 else pixels
    rows, columns = (-(-side // CELL) * CELL for side in reversed(size))
    framed = np.full((1, rows, columns, 3), 127, np.uint8)
    framed[0, : size[1], : size[0]] = resized
    scores, boxes, landmarks = (a[0].astype(np.float64) for a in predict(network, framed))
    steps = np.array([width / size[0], height / size[1]])
    candidates = [
        Face(((box.reshape(2, 2) + 0.5) * steps - 0.5).ravel(), (points + 0.5) * steps - 0.5, score)
        for score, box, points in _merged(scores, boxes, landmarks)
    ]
    return candidates, scale


def _merged(scores: Floats, boxes: Floats, landmarks: Floats) -> list[tuple[float, Floats, Floats]]:
    """Return one score, box and landmarks a face: the mean, weighted by score, of the cells that saw it."""
    order = np.flatnonzero(scores >= LEAST_CANDIDATE)
    order = order[np.argsort(-scores[order], kind="stable")]
    found = []
    while len(order):
        shared = iou(boxes[order[0]], boxes[order])
        same = order[shared >= SAME_VIEW]
        share = scores[same] / scores[same].sum()
        found.append(
            (
                float(scores[order[0]]),
                np.einsum("n,ni->i", share, boxes[same]),
                np.einsum("n,nij->ij", share, landmarks[same]),
            )
        )
        order = order[shared < SAME_FACE]
    return found


def iou(box: Floats, boxes: Floats) -> Floats:
    """Return the intersection over union of ``box`` (4,) with each of ``boxes`` (n, 4)."""
    common = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.clip(common, 0, None).prod(1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - shared
    return np.asarray(shared / np.maximum(union, 1e-9), np.float64)


def _looked_at_again(network: Detector, pixels: Pixels, candidates: list[Face], scale: float) -> list[Face]:
    """Return candidates, seen at this ``scale``, with what upright crops of standard size show of them."""
    from .networks.detector import predict

    matrices = [similarity(face.landmarks) for face in candidates]
    faces = []
    for start in range(0, len(candidates), CLOSE_TOGETHER):
        part = slice(start, start + CLOSE_TOGETHER)
        close = np.stack([crop(pixels, matrix, CLOSE_PIXELS, CLOSE_EXTENT) for matrix in matrices[part]])
        cells = (a.astype(np.float64) for a in predict(network, close))
        for face, matrix, scores, boxes, landmarks in zip(
            candidates[part], matrices[part], *cells, strict=True
        ):
            faces.append(_confirmed(face, matrix, scores, boxes, landmarks, scale))
    return faces


def _confirmed(
    face: Face, matrix: Floats, scores: Floats, boxes: Floats, landmarks: Floats, scale: float
) -> Face:
    """Return ``face``, seen at this ``scale``, with what the cells of its upright crop say."""
    centre = np.full(2, (CLOSE_PIXELS - 1) / 2)
    around = (boxes[:, :2] < centre).all(1) & (boxes[:, 2:] > centre).all(1)
    again = _merged(np.where(around, scores, 0.0), boxes, landmarks)
    if not again:
        return replace(face, score=face.score / 2)
    score, _, points = again[0]
    unit = CLOSE_EXTENT / CLOSE_PIXELS
    points = ((points - centre) * unit + (FRAME - 1) / 2) @ matrix[:, :2].T + matrix[:, 2]
    a, b = matrix[:, 0]
    if np.hypot(a, b) * scale >= 1 / unit and abs(np.arctan2(b, a)) <= UPRIGHT:
        points = (points + face.landmarks) / 2
    return Face(face.box, points, (face.score + score) / 2)


def similarity(landmarks: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the least-squares similarity (2, 3) from the recognition frame to the picture.

    ``landmarks`` is (5, 2) in picture pixels.  Umeyama, PAMI 1991, without reflection.
    """
    points = np.asarray(landmarks, np.float64)
    source, target = TEMPLATE - TEMPLATE.mean(0), points - points.mean(0)
    norm = (source**2).sum()
    a = (source * target).sum() / norm
    b = (source[:, 0] * target[:, 1] - source[:, 1] * target[:, 0]).sum() / norm
    linear = np.array([[a, -b], [b, a]])
    return np.column_stack([linear, points.mean(0) - linear @ TEMPLATE.mean(0)])


def crop(
    pixels: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64], size: int, extent: float = FRAME
) -> npt.NDArray[np.uint8]:
    """Return the (size, size, 3) view of the square of side ``extent`` frame units centred on the frame.

    ``matrix`` maps frame coordinates to picture pixels (pixel centres at whole numbers, as in the labels).
    Where the picture is finer than the view, it is reduced by area averaging; outside it the border repeats.
    """
    import cv2

    step = extent / size
    reduction = max(1, round(float(np.hypot(matrix[0, 0], matrix[1, 0])) * step))
    fine = size * reduction
    unit = extent / fine
    start = FRAME / 2 - extent / 2 + unit / 2 - 0.5
    to_frame = np.array([[unit, 0.0, start], [0.0, unit, start]])
    linear = matrix[:, :2] @ to_frame[:, :2]
    inverse = np.column_stack([linear, matrix[:, :2] @ to_frame[:, 2] + matrix[:, 2]])
    view = cv2.warpAffine(
        pixels,
        inverse,
        (fine, fine),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if reduction > 1:
        view = cv2.resize(view, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(view, np.uint8)
