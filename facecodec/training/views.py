"""Wide 64x64 views of every face: what the preview is trained to show, and where it lies in the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facecodec import faces
from facecodec.training.data import Pictures


def wide_views(pictures: Pictures, path: Path) -> np.ndarray:
    """Return uint8 (N, 64, 64, 3) views of the largest face of each picture (grey where none), kept at ``path``."""
    size = faces.WIDE_PIXELS
    if not path.exists():
        partial = path.with_suffix(".part")
        views = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(pictures), size, size, 3))
        views[:] = 128
        for index in pictures.with_faces():
            matrix = faces.similarity(pictures.landmarks(index))
            views[index] = faces.crop(pictures.picture(index), matrix, size, faces.WIDE_EXTENT)
        views.flush()
        partial.rename(path)
    return np.load(path, mmap_mode="r")


def wide_to_picture(landmarks: np.ndarray) -> np.ndarray:
    """Return the affine map (2, 3) from pixels of the wide view to pixels of the picture."""
    unit = faces.WIDE_EXTENT / faces.WIDE_PIXELS
    start = faces.FRAME / 2 - faces.WIDE_EXTENT / 2 + unit / 2 - 0.5
    matrix = faces.similarity(landmarks)
    return np.column_stack([matrix[:, :2] * unit, matrix[:, :2] @ np.array([start, start]) + matrix[:, 2]])
