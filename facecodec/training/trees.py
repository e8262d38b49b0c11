"""Grow the refinement trees: frequencies, values and ranks from what training latents did."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import log2

import numpy as np
import torch
from torch import Tensor

from facecodec.entropy import DEPTH, INNER, LEAF, NODES, Trees
from facecodec.networks.texture import (
    HYPER_TOP,
    LATENT_STEP,
    LATENT_TOP,
    SCALES,
    SURPRISE_STEP,
    SURPRISE_TOP,
    Texture,
    scale_of,
)

PRECISION = 14
ROOM = 2.0
"""How far latents may go, against the farthest seen in training."""
FINE = 16
"""Points a step at which a distribution is sampled."""
PRIOR_COUNT = 200.0
"""How many samples the normal distribution counts for against those seen."""
RANKS_PER_OCTAVE = 6
REVIEWED = (72, 54, 36, 18, 0)
"""Depths at which the scales are reviewed, about a trit apart."""
CROPS = 12
TRITS_BEFORE = 30.0
VALUES_BEFORE = 10.0
"""How many samples the trees count for, as they are without reviews, against those seen with them."""
FLATTEST = 2.0**-7
FINEST_SLOPE = 0.1154
"""Error a bit below which cells are left undivided when their mean error is that of steps of 1.

Cells of widths from w / 3 to w are left then, evenly in octaves, and dividing one of width w takes w^2 2 / 27
of error for log2(3) bits.
"""


@dataclass(frozen=True)
class Sample:
    """What latents of crops do: offsets from means int16, in 1/8 step, and scales uint8, (N, 320, h, w).

    ``hyper`` int (64, n) are their hyper-latents, ``farthest`` (320,) the largest magnitudes.
    """

    offsets: np.ndarray
    scales: np.ndarray
    hyper: np.ndarray
    farthest: np.ndarray


@torch.no_grad()
def sample(model: Texture, batches: Iterable[tuple[Tensor, Tensor]]) -> Sample:
    """Return what the latents of pictures and predictions (N, 3, H, W), 0..255, do."""
    hyper, offsets, scales, farthest = [], [], [], []
    for picture, prediction in batches:
        y, z = model.analysis(picture, prediction)
        z_hat = z.round().clamp(-HYPER_TOP, HYPER_TOP)
        mean, index = model.prior(z_hat, model.context(prediction)[1])
        hyper.append(z_hat.transpose(0, 1).flatten(1).int().numpy())
        offsets.append(torch.round((y - mean) / LATENT_STEP).clamp(-32768, 32767).short().numpy())
        scales.append(index.byte().numpy())
        farthest.append(y.abs().amax((0, 2, 3)).numpy())
    parts = np.concatenate(offsets), np.concatenate(scales), np.concatenate(hyper, 1)
    return Sample(*parts, np.max(farthest, 0))


def steps(offsets: np.ndarray) -> np.ndarray:
    """Return whole steps, halves up, of offsets in 1/8 step."""
    units = round(1 / LATENT_STEP)
    whole: np.ndarray = (offsets + np.int16(units // 2)) // np.int16(units)
    return whole


def tables(model: Texture, seen: Sample) -> dict[str, np.ndarray]:
    """Return the tensors of the format that hold no layer: hyper-latent, ``latent.top``, trees, reviews."""
    symbols = seen.hyper + HYPER_TOP
    counts = [np.bincount(row, minlength=2 * HYPER_TOP + 1) + 0.05 for row in symbols]
    frequencies = np.array([integer_frequencies(row, PRECISION) for row in counts], np.uint16)
    top = np.ceil(ROOM * seen.farthest / LATENT_STEP).clip(1, LATENT_TOP).astype(np.uint16)
    grown = grow(steps(seen.offsets).ravel(), seen.scales.ravel())
    return {"hyper.frequencies": frequencies, "latent.top": top, **refined(grown, model, seen)}


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
    """Return the tensors of the trees, ``finest`` and ``review.turns``.

    ``offsets`` and ``scales`` are flat integers: training latents less their mean, and their scales.
    """
    frequencies = np.zeros((SCALES, INNER, 3), np.uint16)
    value = np.zeros((SCALES, NODES), np.int16)
    rank = np.full((SCALES, INNER), LEAF, np.uint8)
    surprise = np.zeros((SCALES, NODES), np.uint8)
    sigma = scale_of(torch.arange(SCALES, dtype=torch.float64)).numpy()
    steepest = 4 * float(sigma[-1]) ** 2
    for scale in range(SCALES):
        root = _tree(*_density(offsets[scales == scale], float(sigma[scale]), DEPTH))
        _rank(root, rank[scale], steepest)
        _store(root, frequencies[scale], value[scale])
        _expect(root, surprise[scale], float(sigma[scale]))
    finest = round(RANKS_PER_OCTAVE * log2(steepest / FINEST_SLOPE))
    return {
        "tree.frequencies": frequencies,
        "tree.value": value,
        "tree.rank": rank,
        "tree.planes": np.full(SCALES, DEPTH, np.uint8),
        "tree.surprise": surprise,
        "finest": np.array([finest], np.uint8),
        "review.turns": np.array([finest - depth for depth in REVIEWED], np.uint8),
    }


@torch.no_grad()
def refined(grown: dict[str, np.ndarray], model: Texture, seen: Sample) -> dict[str, np.ndarray]:
    """Return the tensors of trees with frequencies and values as they are where reviews name the scales."""
    trits = np.zeros((SCALES * INNER, 3))
    sums = np.zeros((2, SCALES * NODES))
    bounds = [0, *grown["review.turns"].tolist(), LEAF]
    for first in range(0, len(seen.scales), CROPS):
        part = slice(first, first + CROPS)
        walk = Walk(grown, steps(seen.offsets[part]), seen.scales[part])
        for turn, following in itertools.pairwise(bounds):
            before, node = walk.node(turn), walk.node(following)
            tree = (walk.reviewed(model, turn, before).byte().numpy() if turn else walk.scales).astype(
                np.intp
            )
            offset = seen.offsets[part]
            while node.size:
                place = (tree * NODES + node).ravel()
                sums[0] += np.bincount(place, minlength=sums.shape[1])
                sums[1] += np.bincount(place, offset.ravel(), sums.shape[1])
                moved = node != before
                tree, node, before, offset = tree[moved], node[moved], before[moved], offset[moved]
                state = 3 * (tree * INNER + (node - 1) // 3) + (node - 1) % 3
                trits += np.bincount(state, minlength=trits.size).reshape(trits.shape)
                node = (node - 1) // 3
    prior = grown["tree.frequencies"].reshape(-1, 3) * (TRITS_BEFORE / (1 << PRECISION))
    frequencies = [integer_frequencies(row + 1e-6, PRECISION) for row in trits + prior]
    counts, totals = sums.reshape(2, SCALES, NODES)
    value = (totals + VALUES_BEFORE * grown["tree.value"]) / (counts + VALUES_BEFORE)
    return grown | {
        "tree.frequencies": np.array(frequencies, np.uint16).reshape(grown["tree.frequencies"].shape),
        "tree.value": np.round(value).astype(np.int16),
    }


def planted(grown: dict[str, np.ndarray]) -> Trees:
    """Return the trees of these tensors."""
    return Trees.from_integers(*(grown[f"tree.{key}"] for key in ("frequencies", "value", "rank", "planes")))


def cells() -> tuple[np.ndarray, np.ndarray]:
    """Return the middle and the width, in steps, of the interval of each node, float32 (3280,)."""
    middles, widths = [], []
    for depth in range(DEPTH + 1):
        width = 3 ** (DEPTH - depth)
        middles.append((np.arange(3**depth) - 3**depth // 2) * width)
        widths.append(np.full(3**depth, width))
    return np.concatenate(middles).astype(np.float32), np.concatenate(widths).astype(np.float32)


class Walk:
    """Latents of crops on their way down the trees."""

    def __init__(
        self,
        grown: dict[str, np.ndarray],
        steps: np.ndarray,
        scales: np.ndarray,
        delay: np.ndarray | None = None,
    ) -> None:
        """Take trees, whole steps and scales (N, C, h, w), and how many turns late blocks (N, h, w) are."""
        self.trees = planted(grown)
        self.surprise, self.scales = grown["tree.surprise"], scales
        none = np.zeros((len(scales), *scales.shape[2:]), np.uint8)
        self.delay = none if delay is None else delay
        self.leaf = self.trees.leaves(steps.ravel(), scales.ravel()).reshape(scales.shape)

    def node(self, turns: int | np.ndarray) -> np.ndarray:
        """Return the nodes that latents have reached before a turn, or before that of each crop (N,)."""
        node: np.ndarray = self.leaf.copy()
        for crop, scale, delay, turn in zip(
            node, self.scales, self.delay, np.broadcast_to(turns, len(node)).tolist(), strict=True
        ):
            self.trees.climb(scale.ravel(), delay.ravel(), crop.reshape(-1), turn - 1)
        return node

    def reviewed(self, model: Texture, turns: int | np.ndarray, node: np.ndarray) -> Tensor:
        """Return the scale indices (N, C, h, w) that a review before these turns gives latents at nodes."""
        gone = np.reshape(turns, (-1, 1, 1)) - self.delay.astype(np.float32)
        surprise = torch.from_numpy(self.surprise[self.scales, node]).float()
        scales = torch.from_numpy(self.scales).float()
        index: Tensor = model.review(surprise, scales, torch.from_numpy(gone.clip(0, LEAF))[:, None].float())
        return index


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


def _expect(node: Node, surprise: np.ndarray, sigma: float) -> None:
    """Set how large the square of a latent is expected to be at every node, against that of its scale."""
    square = (node.spread / node.mass + node.mean**2) / sigma**2
    surprise[node.index] = min(SURPRISE_TOP, round(square / SURPRISE_STEP))
    for child in node.children:
        _expect(child, surprise, sigma)


def _store(node: Node, frequencies: np.ndarray, value: np.ndarray) -> None:
    value[node.index] = round(node.mean / LATENT_STEP)
    if node.children:
        masses = np.array([child.mass for child in node.children])
        frequencies[node.index] = integer_frequencies(masses / masses.sum() + 1e-7, PRECISION)
        for child in node.children:
            _store(child, frequencies, value)
