"""Learn the map of regions: where on a face an error is dear, and so where bits go first.

The hybrid semantic metric is the squared error of pixels, plus ``SEMANTIC`` times the squared distance of a
recogniser's embeddings, plus ``REALISM`` times the squared distance of a discriminator's verdicts (LFIC,
arXiv 1812.10067).  Small errors of one variance and without correlation change each of the latter two by that
variance times the squared norm of its Jacobian, which random directions estimate without bias.  An error in
a cell thus weighs 1 plus both factors times its shares; the share of the mean cell is 1, and outside the
frame, where neither sees anything, it is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facecodec import faces
from facecodec.geometry import CELLS
from facecodec.latents import PARTS
from facecodec.training import discriminator
from facecodec.training.data import open_sets
from facecodec.training.embedding import to_batch
from facecodec.training.teacher import Teacher

SEMANTIC = 6.0
REALISM = 1.0
TURNS_PER_OCTAVE = PARTS / np.log2(9)
"""A plane divides errors by nine."""
FACES = 3200
DECODED = 4
"""The discriminator learns from one face in so many."""
BATCH = 32


def learn(*, data: Path, runs: Path, teacher: Path) -> None:
    """Write ``regions/weight.npy``, float64 (18, 18): what an error in each cell costs.

    ``teacher`` is the recogniser; the discriminator learns from what the newest weights decode.
    """
    torch.manual_seed(0)
    recogniser = Teacher(teacher).network.float()
    pictures = open_sets(data, "train-*", runs / "cache")
    known = np.array(pictures.with_faces())
    views = np.array(
        [
            faces.crop(pictures.picture(i), faces.similarity(pictures.landmarks(i)), faces.FRAME)
            for i in known[np.linspace(0, len(known) - 1, FACES).astype(int)]
        ]
    )
    photographs = views[::DECODED]
    critic = discriminator.learn(photographs, discriminator.decoded(photographs, np.random.default_rng(0)))
    parts: tuple[Callable[[Tensor], Tensor], ...] = (lambda seen: F.normalize(recogniser(seen)), critic)
    totals = [torch.zeros(faces.FRAME, faces.FRAME, dtype=torch.float64) for _ in parts]
    for batch in np.array_split(views, FACES // BATCH):
        for total, part in zip(totals, parts, strict=True):
            total += sensitivity(part, to_batch(batch))
    (runs / "regions").mkdir(parents=True, exist_ok=True)
    np.save(runs / "regions" / "weight.npy", weights(*(shares(total) for total in totals)))


def sensitivity(part: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
    """Return how much a part of the metric (N, ...) follows each pixel of views, float64 (112, 112)."""
    seen = views.requires_grad_()
    found = part(seen)
    (gradient,) = torch.autograd.grad((found * torch.randn_like(found)).sum(), seen)
    return gradient.double().square().sum((0, 1))


def shares(sensitive: Tensor) -> np.ndarray:
    """Return the mean of each cell (16, 16) of pixels (112, 112), both sides alike; the mean of all is 1."""
    cell = F.avg_pool2d((sensitive + sensitive.flip(1))[None], faces.FRAME // (CELLS - 2))[0]
    share: np.ndarray = (cell / cell.mean()).numpy()
    return share


def weights(semantic: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return what an error in each cell (18, 18) costs, given its shares (16, 16)."""
    return 1 + np.pad(SEMANTIC * semantic + REALISM * real, 1)


def delays(weight: np.ndarray) -> np.ndarray:
    """Return the map uint8 (18, 18) of how many turns later than the dearest cell each one is refined."""
    later: np.ndarray = np.round(TURNS_PER_OCTAVE * np.log2(weight.max() / weight)).astype(np.uint8)
    return later
