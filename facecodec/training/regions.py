"""Learn the map of regions: where on a face an error costs recognition, and so where bits go first.

The hybrid semantic metric is the squared error of pixels plus ``SEMANTIC`` times the squared distance of a
recogniser's embeddings (LFIC, arXiv 1812.10067).  Small errors of one variance and without correlation change
the second part by that variance times the squared norm of the Jacobian, which random directions estimate
without bias.  An error in a cell thus weighs 1 + SEMANTIC * (its share); the share of the mean cell is 1, and
outside the frame, where the recogniser sees nothing, it is 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facecodec import faces
from facecodec.geometry import CELLS
from facecodec.latents import PARTS
from facecodec.training.data import open_sets
from facecodec.training.embedding import to_batch
from facecodec.training.teacher import Teacher

SEMANTIC = 6.0
TURNS_PER_OCTAVE = PARTS / np.log2(9)
"""A plane divides errors by nine."""
FACES = 3200
BATCH = 32


def learn(*, data: Path, runs: Path, teacher: Path) -> None:
    """Write ``regions/share.npy``, float64 (16, 16): what each cell of the frame is worth to ``teacher``."""
    torch.manual_seed(0)
    network = Teacher(teacher).network.float()
    pictures = open_sets(data, "train-*", runs / "cache")
    known = np.array(pictures.with_faces())
    total = torch.zeros(faces.FRAME, faces.FRAME, dtype=torch.float64)
    for batch in np.array_split(known[np.linspace(0, len(known) - 1, FACES).astype(int)], FACES // BATCH):
        views = [
            faces.crop(pictures.picture(i), faces.similarity(pictures.landmarks(i)), faces.FRAME)
            for i in batch
        ]
        total += sensitivity(network, to_batch(np.array(views)))
    (runs / "regions").mkdir(parents=True, exist_ok=True)
    np.save(runs / "regions" / "share.npy", shares(total))


def sensitivity(network: nn.Module, views: Tensor) -> Tensor:
    """Return how much unit embeddings of views (N, 3, 112, 112) follow each pixel, float64 (112, 112)."""
    seen = views.requires_grad_()
    embedding = F.normalize(network(seen))
    (gradient,) = torch.autograd.grad((embedding * torch.randn_like(embedding)).sum(), seen)
    return gradient.double().square().sum((0, 1))


def shares(sensitive: Tensor) -> np.ndarray:
    """Return the mean of each cell (16, 16) of pixels (112, 112), both sides alike; the mean of all is 1."""
    cell = F.avg_pool2d((sensitive + sensitive.flip(1))[None], faces.FRAME // (CELLS - 2))[0]
    share: np.ndarray = (cell / cell.mean()).numpy()
    return share


def delays(share: np.ndarray, semantic: float = SEMANTIC) -> np.ndarray:
    """Return the map uint8 (18, 18) of how many turns later than the dearest cell each one is refined."""
    weight = 1 + semantic * np.pad(share, 1)
    later: np.ndarray = np.round(TURNS_PER_OCTAVE * np.log2(weight.max() / weight)).astype(np.uint8)
    return later
