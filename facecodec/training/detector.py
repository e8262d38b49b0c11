"""Train the face detector on mosaics of labelled faces, export it, and measure it."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from facecodec import weights
from facecodec.errors import WeightsError
from facecodec.evaluation import detection
from facecodec.evaluation.pictures import Label, open_pictures
from facecodec.networks.detector import STRIDES, Detector, cells, read_cells, unfold
from facecodec.training.data import open_sets
from facecodec.training.mosaics import Mosaics, View
from facecodec.training.run import Run

CROWDS, PORTRAITS = 16, 64
"""Pictures of a batch: crowds and portraits alternate."""

RATE = 2e-3
FACES = 8
"""Most labelled faces of one training picture."""

SMALLEST_EYES = 4.5
LEVELS = {8: (0.0, 60.0), 16: (44.0, 140.0), 32: (100.0, math.inf)}
"""Face sizes (root of the box area, pixels) that the cells of a stride are trained to find."""


def stacked(views: list[View]) -> tuple[Tensor, Tensor, Tensor]:
    """Return float32 RGB (N, 3, S, S) in -1..1, boxes (N, FACES, 4) and landmarks (N, FACES, 5, 2).

    NaN stands for no face.
    """
    boxes = np.full((len(views), FACES, 4), np.nan, np.float32)
    points = np.full((len(views), FACES, 5, 2), np.nan, np.float32)
    for i, view in enumerate(views):
        for j, (box, point) in enumerate(zip(view.boxes[:FACES], view.points, strict=False)):
            boxes[i, j], points[i, j] = box, point
    pixels = torch.from_numpy(np.stack([view.pixels for view in views])).permute(0, 3, 1, 2)
    x = pixels.float().sub_(127.5).mul_(1 / 127.5).contiguous(memory_format=torch.channels_last)
    return x, torch.from_numpy(boxes), torch.from_numpy(points)


def assign(boxes: Tensor, points: Tensor, grid: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return for each cell its face's index or -1 (N, cells), and which cells count for the score.

    A cell is trained on the smallest face whose landmark centre is near it and whose size suits its stride.
    Cells inside faces too small or too far outside to learn from do not count.
    """
    low = torch.tensor([LEVELS[s][0] for s in STRIDES])
    high = torch.tensor([LEVELS[s][1] for s in STRIDES])
    level = torch.log2(grid[:, 2] / STRIDES[0]).long()
    size = ((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])).sqrt()
    eyes = (points[..., 0, :] - points[..., 1, :]).norm(dim=-1)
    centre = points.mean(-2)
    learnt = ((centre > 0) & (centre < side - 1)).all(-1) & (eyes > SMALLEST_EYES)
    stride = grid[:, 2][None, None]
    reach = torch.maximum(0.6 * stride, torch.minimum(1.5 * stride, 0.3 * size[..., None]))
    near = ((grid[:, :2] - centre[..., None, :]).abs().amax(-1)) < reach
    suits = (size[..., None] >= low[level]) & (size[..., None] < high[level])
    match = near & suits & learnt[..., None]
    cost = torch.where(match, size[..., None], math.inf)
    best, index = cost.min(1)
    inside = ((grid[:, :2] > boxes[..., None, :2]) & (grid[:, :2] < boxes[..., None, 2:])).all(-1)
    ignored = (inside & ~learnt[..., None]).any(1)
    found = best < math.inf
    return torch.where(found, index, -1), found | ~ignored


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the IoU and the generalised IoU of boxes (n, 4) pair by pair."""
    area_a = (a[:, 2:] - a[:, :2]).prod(1)
    area_b = (b[:, 2:] - b[:, :2]).prod(1)
    common = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = area_a + area_b - common
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    iou = common / union
    return iou, iou - (hull - union) / hull


def losses(outputs: Tensor, boxes: Tensor, points: Tensor, side: int) -> dict[str, Tensor]:
    """Return the score, box and landmark losses of ``outputs`` (N, cells, 15) against the labels."""
    grid = cells(side, side)
    index, counts = assign(boxes, points, grid, side)
    logits, found_boxes, found_points = read_cells(outputs, grid)
    picture, cell = torch.nonzero(index >= 0, as_tuple=True)
    face = index[picture, cell]
    target_points = points[picture, face]
    iou, generalised = overlap(found_boxes[picture, cell], boxes[picture, face])
    eyes = (target_points[:, 0] - target_points[:, 1]).norm(dim=-1)
    # A near-profile has a short eye distance: the face size bounds the unit of its error from below.
    size = (boxes[picture, face, 2:] - boxes[picture, face, :2]).prod(1).sqrt()
    unit = torch.maximum(eyes, 0.3 * size)[:, None, None]
    error = torch.nn.functional.smooth_l1_loss(
        found_points[picture, cell] / unit, target_points / unit, beta=0.02
    )
    quality = torch.zeros_like(logits)
    quality[picture, cell] = iou.detach().clamp(min=0.05)
    weight = (quality - logits.sigmoid()).abs().square() * counts
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return {
        "score": (weight.detach() * entropy).sum() / max(1, len(face)),
        "box": (1 - generalised).mean(),
        "landmarks": error,
    }


def train(*, data: Path, runs: Path, minutes: float) -> None:
    """Train for ``minutes`` on sets ``train-*`` and ``scenes`` of ``data``, resuming ``runs/detector``."""
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    cache, model = runs / "cache", Detector()
    faced, scenes = open_sets(data, "train-*", cache), open_sets(data, "scenes", cache)
    mosaics = Mosaics(faced, scenes, np.random.default_rng(0))
    warm(model, mosaics)
    run = Run(runs / "detector", model, minutes=minutes, rate=RATE, weight_decay=0.02)
    mosaics.rng = np.random.default_rng([run.step, run.worker])
    model.train()
    for step in run.steps():
        portraits = step % 2 == 1
        count = PORTRAITS if portraits else CROWDS
        x, boxes, points = stacked(
            [mosaics.portrait() if portraits else mosaics.crowd() for _ in range(count)]
        )
        with torch.autocast("cpu", torch.bfloat16):
            outputs = model(x)
        parts = losses(outputs, boxes, points, x.shape[-1])
        run.descend(parts["score"] + 1.5 * parts["box"] + 8 * parts["landmarks"], clip=10.0)
        run.note(**{f"{name}{x.shape[-1]}": 2 * float(part.detach()) for name, part in parts.items()})
        if step % 50 == 49:
            run.log()


def warm(model: Detector, mosaics: Mosaics) -> None:
    """Give the detector the newest weights that were kept, if there are any."""
    with suppress(WeightsError):
        kept = weights.load(weights.newest("detector"))
        unfold(model, kept.tensors, stacked([mosaics.crowd() for _ in range(PORTRAITS)])[0])


def evaluate(data: Path, cache: Path, *, every: int = 1) -> dict[str, dict[str, Any]]:
    """Measure ``faces.find`` on ``lfw-dev``, ``val``, ``scenes`` (each ``every``-th picture) and mosaics.

    The figures are those of ``evaluation.detection``; ``scenes`` has no labels, but does show some people.
    """
    report = {
        name: detection.report(
            [detection.look(entry) for entry in open_pictures(data / f"{name}.jsonl")[::every]]
        )
        for name in ("lfw-dev", "val", "scenes")
    }
    val, scenes = open_sets(data, "val", cache), open_sets(data, "scenes", cache)
    hard = {
        "24 px in 640": (640, 10.0, 0.0),
        "tilted 45": (256, 40.0, math.pi / 4),
        "filling": (128, 62.0, 0.0),
    }
    for name, (side, eyes, angle) in hard.items():
        mosaics = Mosaics(val, scenes, np.random.default_rng(1))
        views = (mosaics.single(side, eyes, angle) for _ in range(400 // every))
        report[name] = detection.report([_searched(view) for view in views])
    return report


def _searched(view: View) -> detection.Found:
    labels = [Label(box, points) for box, points in zip(view.boxes, view.points, strict=True)]
    return detection.search(np.ascontiguousarray(view.pixels), labels)
