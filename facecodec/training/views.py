"""Views of every face: the aligned one, and the wide one that the preview is trained to show."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import torch

from facecodec import base_layer, faces, weights
from facecodec.face_codes import face_encoder, identity_codes
from facecodec.networks import exact_torch
from facecodec.training.data import Pictures


def near_views(pictures: Pictures, path: Path) -> np.ndarray:
    """Return uint8 (N, 112, 112, 3) aligned faces, the largest of each picture, kept at ``path``."""
    return _views(pictures, path, faces.FRAME, faces.FRAME)


def wide_views(pictures: Pictures, path: Path) -> np.ndarray:
    """Return uint8 (N, 64, 64, 3) views of each picture's largest face, kept at ``path``."""
    return _views(pictures, path, faces.WIDE_PIXELS, faces.WIDE_EXTENT)


def _views(pictures: Pictures, path: Path, size: int, extent: float) -> np.ndarray:
    """Cut the views of this size, grey where there is no face, and of this extent in units of the frame."""
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.part")
        views = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(pictures), size, size, 3))
        views[:] = 128
        for index in pictures.with_faces():
            matrix = faces.similarity(pictures.landmarks(index))
            views[index] = faces.crop(pictures.picture(index), matrix, size, extent)
        views.flush()
        partial.rename(path)
    return np.asarray(np.load(path, mmap_mode="r"))


def wide_to_picture(landmarks: np.ndarray) -> np.ndarray:
    """Return the affine map (2, 3) from pixels of the wide view to pixels of the picture."""
    unit = faces.WIDE_EXTENT / faces.WIDE_PIXELS
    start = faces.FRAME / 2 - faces.WIDE_EXTENT / 2 + unit / 2 - 0.5
    matrix = faces.similarity(landmarks)
    return np.column_stack([matrix[:, :2] * unit, matrix[:, :2] @ np.array([start, start]) + matrix[:, 2]])


def previews(pictures: Pictures, name: str, cache: Path) -> np.ndarray:
    """Return the previews uint8 (N, 64, 64, 3) that the newest base layer shows, kept in ``cache``.

    ``name`` is that of the set of pictures; pictures without a face are grey.
    """
    model = base_layer.load(weights.newest("base"))
    network = face_encoder(model)
    path = cache / f"previews-{name}-{weights.load(weights.newest('trunk')).id.hex()}.npy"
    if not path.exists():
        shown = np.full((len(pictures), faces.WIDE_PIXELS, faces.WIDE_PIXELS, 3), 128, np.uint8)
        chosen = np.array(pictures.with_faces())
        near = near_views(pictures, cache / f"near-{name}.npy")
        wide = wide_views(pictures, cache / f"wide-{name}.npy")
        show = partial(base_layer.previews, model=model, convolve=exact_torch.conv2d)
        for batch in np.array_split(chosen, max(1, len(chosen) // 64)):
            identity = identity_codes(network.embed(near[batch]), network.step, model)
            with torch.autocast("cpu", torch.bfloat16):
                appearance = network.codes(wide[batch], partial(show, identity))
            shown[batch] = show(identity, appearance)
        unfinished = path.with_suffix(f".{os.getpid()}.part.npy")
        np.save(unfinished, shown)
        unfinished.rename(path)
    return np.asarray(np.load(path, mmap_mode="r"))
