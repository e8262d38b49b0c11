"""Crops of pictures at random scales, with the predictions that the texture networks are given."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from facecodec import faces
from facecodec.training.data import Pictures, open_sets
from facecodec.training.views import previews, wide_to_picture

SIDE = 128
BATCH = 12
SCENES = 2
SHARE = {
    "utkface": 0.9,
    "aaf": 1.6,
    "scut": 1.0,
    "celebahq": 7.0,
    "celebatoy": 4.0,
    "imagenet-sample": 1.5,
    "bsds500": 1.5,
}
"""Chance of a picture by its source, 2 for others, so that detail and variety decide."""


class Crops:
    """Random crops with the prediction that the base layer would give for them."""

    def __init__(self, pictures: Pictures, shown: np.ndarray, seed: int | list[int]) -> None:
        """Draw from ``pictures``; ``shown`` are their previews, uint8 (N, 64, 64, 3)."""
        self.pictures = pictures
        self.shown = shown
        self.rng = np.random.default_rng(seed)
        weight = np.array([SHARE.get(record["source"], 2.0) for record in pictures.records])
        self.chance = weight / weight.sum()

    def batch(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return pictures and predictions, float (N, 3, 128, 128), 0..255, and where their faces are.

        That is float (N, 2, 3), the map from pixels of the recognition frame to those of the crop.
        """
        drawn = self.rng.choice(len(self.pictures), count, p=self.chance)
        parts = zip(*(self.crop(int(i)) for i in drawn), strict=True)
        crops, shown, frames = (torch.from_numpy(np.array(part)).float() for part in parts)
        return crops.permute(0, 3, 1, 2), shown.permute(0, 3, 1, 2), frames

    def crop(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return one uint8 crop (128, 128, 3) at a random scale, its prediction, and where its face is."""
        rng = self.rng
        picture = self.pictures.picture(index)
        height, width = picture.shape[:2]
        side = int(rng.integers(SIDE, min(height, width) + 1)) if rng.random() < 0.7 else SIDE
        left, top = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        view = np.ascontiguousarray(picture[top : top + side, left : left + side])
        if side != SIDE:
            view = np.asarray(cv2.resize(view, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
        scale, moved = SIDE / side, np.array([left, top])
        frame = np.zeros((2, 3))
        if not self.pictures.records[index]["faces"] or rng.random() < 0.08:
            prediction = np.full_like(view, 128)
        else:
            landmarks = (self.pictures.landmarks(index) - moved + 0.5) * scale - 0.5
            frame = faces.similarity(landmarks)
            shown = np.asarray(self.shown[index])
            matrix = wide_to_picture(landmarks)
            warped = cv2.warpAffine(shown, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
            prediction = np.asarray(warped, np.uint8)
        if rng.random() < 0.5:
            view, prediction = view[:, ::-1], prediction[:, ::-1]
            frame[0] = [0, 0, SIDE - 1] - frame[0]
        return view, prediction, frame


class Draw:
    """Batches of crops, of which one in six is of a scene without a face that the base layer knows."""

    def __init__(self, data: Path, cache: Path, seed: list[int]) -> None:
        """Open the sets for training."""
        portraits, scenes = open_sets(data, "train-*", cache), open_sets(data, "scenes", cache)
        blank = np.full((1, 64, 64, 3), 128, np.uint8)
        self.faces = Crops(portraits, previews(portraits, "train", cache), seed)
        self.scenes = Crops(scenes, np.broadcast_to(blank, (len(scenes), 64, 64, 3)), seed)

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return 12 pictures, predictions and places of faces, as ``Crops.batch`` does."""
        parts = zip(self.faces.batch(BATCH - SCENES), self.scenes.batch(SCENES), strict=True)
        pictures, predictions, frames = (torch.cat(part) for part in parts)
        last = torch.channels_last
        return pictures.contiguous(memory_format=last), predictions.contiguous(memory_format=last), frames
