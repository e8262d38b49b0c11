"""Fit the exact residual to a picture: weights that foretell it, tables for what is left (free side)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import residual
from .residual import CHANNELS, LEFT, TABLES, UNIT, WEIGHTS, WINDOW

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

SAMPLES = 1 << 16
"""Pixels, about, from which the weights are learnt."""
ROUNDS = 6


def encode_exact(pixels: Pixels, decoded: Pixels) -> bytes:
    """Return the payload of the Residual section that turns ``decoded`` into ``pixels``, uint8 (H, W, 3)."""
    weights = np.concatenate([learnt(pixels, decoded, index) for index in range(3)])
    return residual.encode(pixels, decoded, weights, cheapest)


def learnt(pixels: Pixels, decoded: Pixels, index: int) -> npt.NDArray[np.int8]:
    """Return the weights (planes, 11) that foretell a plane best: least absolute errors, reweighted."""
    height, width = pixels.shape[:2]
    rows = np.arange(0, height, -(-height * width // SAMPLES))
    near = np.array([view.ravel() for view in residual.near(pixels, decoded, index, rows)], np.float64)
    near = near.reshape(-1, len(WINDOW), near.shape[1])
    left = near[0, LEFT]
    known = np.delete(near - near[:, LEFT : LEFT + 1], LEFT, 1).reshape(-1, left.size)
    wanted = pixels[rows, :, CHANNELS[index]].ravel() - left
    trust = np.ones(left.size)
    for _ in range(ROUNDS):
        trusted = known * trust
        square = trusted @ known.T + 0.01 * np.eye(len(known))
        weights = np.linalg.solve(square, trusted @ wanted)
        failed = np.abs(wanted - weights @ known)
        around = np.pad(failed.reshape(-1, width), ((0, 0), (2, 2)), "edge")
        beside = around[:, :-4] + around[:, 1:-3] + around[:, 3:-1] + around[:, 4:]
        trust = 1 / (np.maximum(failed, 0.25) * (beside.ravel() + 2))
    return _rounded(weights * UNIT, square).reshape(-1, WEIGHTS)


def _rounded(weights: Floats, square: Floats) -> npt.NDArray[np.int8]:
    """Return whole weights, one after the other: those still to come make up for what rounding changes."""
    weights = weights.copy()
    for at in range(weights.size):
        exact, rest = weights[at], slice(at + 1, None)
        weights[at] = np.rint(exact).clip(-128, 127)
        weights[rest] += np.linalg.solve(square[rest, rest], square[rest, at]) * (exact - weights[at])
    return weights.astype(np.int8)


def cheapest(counts: Integers) -> list[int]:
    """Return the table that codes each row of counts (16, 256) of failures in the fewest bits."""
    return [int(np.argmin(_bits() @ count)) for count in counts]


@cache
def _bits() -> Floats:
    """Return what each symbol costs in each table, but for a constant: (64, 256)."""
    bits: Floats = -np.log2(np.array([residual.frequencies(index) for index in range(TABLES)]))
    return bits
