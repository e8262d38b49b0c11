"""Grow the refinement trees: frequencies, values and ranks from what training latents did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import log2

import numpy as np
import torch
from torch import Tensor

from facecodec.entropy import DEPTH, INNER, LEAF, NODES
from facecodec.networks.texture import HYPER_TOP, LATENT_STEP, LATENT_TOP, SCALES, Texture, scale_of

PRECISION = 14
ROOM = 2.0
"""How far latents may go, against the farthest seen in training."""
FINE = 16
"""Points a step at which a distribution is sampled."""
PRIOR_COUNT = 200.0
"""How many samples the normal distribution counts for against those seen."""
RANKS_PER_OCTAVE = 6
FLATTEST = 2.0**-7
FINEST_SLOPE = 0.1154
"""Error a bit below which cells are left undivided when their mean error is that of steps of 1.

Cells of widths from w / 3 to w are left then, evenly in octaves, and dividing one of width w takes w^2 2 / 27
of error for log2(3) bits.
"""


@torch.no_grad()
def tables(model: Texture, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, np.ndarray]:
    """Return the tensors of the format that hold no layer: ``hyper.frequencies``, ``latent.top``, the trees.

    From what the latents of pictures and predictions (N, 3, H, W), 0..255, do.
    """
    hyper, offsets, scales, farthest = [], [], [], []
    for picture, prediction in batches:
        y, z = model.analysis(picture, prediction)
        z_hat = z.round().clamp(-HYPER_TOP, HYPER_TOP)
        mean, index = model.prior(z_hat, model.context(prediction)[1])
        hyper.append(z_hat.transpose(0, 1).flatten(1).int().numpy())
        offsets.append(torch.round(y - mean).flatten().short().numpy())
        scales.append(index.flatten().byte().numpy())
        farthest.append(y.abs().amax((0, 2, 3)).numpy())
    symbols = np.concatenate(hyper, 1) + HYPER_TOP
    counts = [np.bincount(row, minlength=2 * HYPER_TOP + 1) + 0.05 for row in symbols]
    frequencies = np.array([integer_frequencies(row, PRECISION) for row in counts], np.uint16)
    top = np.ceil(ROOM * np.max(farthest, 0) / LATENT_STEP).clip(1, LATENT_TOP).astype(np.uint16)
    grown = grow(np.concatenate(offsets), np.concatenate(scales))
    return {"hyper.frequencies": frequencies, "latent.top": top, **grown}


def integer_frequencies(weights: np.ndarray, precision: int) -> np.ndarray:
    """Return integers of at least 1 and sum 2^precision in proportion to positive weights."""
    total = 1 << precision
    scaled = np.floor(weights / weights.sum() * (total - len(weights))).astype(np.int64)
    shares: np.ndarray = np.maximum(1, scaled)
    shares[np.argmax(shares)] += total - shares.sum()
    return shares


@dataclass
class Node:
    """An interval of a latent: its probability mass, first and second moments, and its thirds."""

    index: int
    mass: float
    mean: float
    spread: float
    children: list[Node] = field(default_factory=list)


def grow(offsets: np.ndarray, scales: np.ndarray) -> dict[str, np.ndarray]:
    """Return the tensors ``tree.frequencies``, ``tree.value``, ``tree.rank``, ``tree.planes`` and ``finest``.

    ``offsets`` and ``scales`` are flat integers: training latents less their mean, and their scales.
    """
    frequencies = np.zeros((SCALES, INNER, 3), np.uint16)
    value = np.zeros((SCALES, NODES), np.int16)
    rank = np.full((SCALES, INNER), LEAF, np.uint8)
    planes = np.full(SCALES, DEPTH, np.uint8)
    sigma = scale_of(torch.arange(SCALES, dtype=torch.float64)).numpy()
    steepest = 4 * float(sigma[-1]) ** 2
    for scale in range(SCALES):
        root = _tree(*_density(offsets[scales == scale], float(sigma[scale]), DEPTH))
        _rank(root, rank[scale], steepest)
        _store(root, frequencies[scale], value[scale])
    finest = np.array([round(RANKS_PER_OCTAVE * log2(steepest / FINEST_SLOPE))], np.uint8)
    return {
        "tree.frequencies": frequencies,
        "tree.value": value,
        "tree.rank": rank,
        "tree.planes": planes,
        "finest": finest,
    }


def _density(seen: np.ndarray, sigma: float, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points and masses of a distribution over a tree: seen counts, a normal inside each step."""
    top = (3**depth - 1) // 2
    points = (np.arange((2 * top + 1) * FINE) + 0.5) / FINE - top - 0.5
    normal = np.exp(-0.5 * (points / sigma) ** 2) + 1e-9
    cells = normal.reshape(-1, FINE)
    counts = np.bincount(np.clip(seen, -top, top) + top, minlength=2 * top + 1).astype(np.float64)
    counts = counts + counts[::-1] + PRIOR_COUNT * cells.sum(1) / cells.sum() + 1e-4
    masses = cells / cells.sum(1, keepdims=True) * counts[:, None]
    return points, (masses / masses.sum()).ravel()


def _tree(points: np.ndarray, masses: np.ndarray, index: int = 0) -> Node:
    mass = float(masses.sum())
    mean = float((points * masses).sum()) / mass
    node = Node(index, mass, mean, float((masses * (points - mean) ** 2).sum()))
    if len(points) > FINE:
        node.children = [
            _tree(p, m, 3 * index + 1 + t)
            for t, (p, m) in enumerate(zip(np.split(points, 3), np.split(masses, 3), strict=True))
        ]
    return node


def _gain(node: Node) -> tuple[float, float]:
    """Return the squared error and the bits that one trit at a node is expected to take."""
    error = node.spread - sum(child.spread for child in node.children)
    bits = -sum(child.mass * log2(child.mass / node.mass) for child in node.children)
    return error, bits


def _rank(root: Node, rank: np.ndarray, steepest: float) -> None:
    """Set the rank of every inner node: after its parent, by error per bit or the best that it leads to."""
    slopes: dict[int, float] = {}

    def hull(node: Node) -> tuple[float, float]:
        error, bits = _gain(node)
        below = sorted(
            (hull(child) for child in node.children if child.children),
            key=lambda g: g[0] / g[1],
            reverse=True,
        )
        for more_error, more_bits in below:
            if more_error / more_bits > error / bits:
                error, bits = error + more_error, bits + more_bits
        slopes[node.index] = error / bits
        return error, bits

    def assign(node: Node, least: int) -> None:
        steps = RANKS_PER_OCTAVE * log2(steepest / max(slopes[node.index], FLATTEST))
        rank[node.index] = max(least, round(max(0.0, steps)))
        for child in node.children:
            if child.children:
                assign(child, int(rank[node.index]) + 1)

    hull(root)
    assign(root, 0)


def _store(node: Node, frequencies: np.ndarray, value: np.ndarray) -> None:
    value[node.index] = round(node.mean / LATENT_STEP)
    if node.children:
        masses = np.array([child.mass for child in node.children])
        frequencies[node.index] = integer_frequencies(masses / masses.sum() + 1e-7, PRECISION)
        for child in node.children:
            _store(child, frequencies, value)
