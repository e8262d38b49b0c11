"""Curves of bytes against quality: what a quality costs, and Bjontegaard's mean difference of rate."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Curve = tuple[Floats, Floats]
"""Rising bytes, and the quality (PSNR or MS-SSIM in dB, accuracy) that rises with them."""

SAMPLES = 1000


def curve(points: Iterable[tuple[float, float]]) -> Curve:
    """Return the points (bytes, quality) that no other beats in both; infinite qualities do not count."""
    kept: list[tuple[float, float]] = []
    for size, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if math.isfinite(quality) and (not kept or quality > kept[-1][1]):
            kept.append((size, quality))
    return np.array([p[0] for p in kept], np.float64), np.array([p[1] for p in kept], np.float64)


def bytes_for(curve: Curve, quality: float) -> float:
    """Return the bytes for at least this quality, logarithms interpolated; infinite out of reach."""
    sizes, qualities = curve
    if not len(sizes) or quality > qualities[-1]:
        return math.inf
    return float(np.exp(np.interp(quality, qualities, np.log(sizes))))


def rate_difference(ours: Curve, theirs: Curve) -> tuple[float, float, float] | None:
    """Return the mean of ln(our bytes / their bytes) over the quality that both reach, and that range in dB.

    Bjontegaard's measure (VCEG-M33) with piecewise monotone cubic interpolation of the logarithm of bytes.
    None where the ranges do not overlap, or a curve has fewer than two points.
    """
    if min(len(ours[0]), len(theirs[0])) < 2:
        return None
    low, high = max(ours[1][0], theirs[1][0]), min(ours[1][-1], theirs[1][-1])
    if low >= high:
        return None
    at = np.linspace(low, high, SAMPLES)
    difference = monotone_cubic(ours[1], np.log(ours[0]), at) - monotone_cubic(
        theirs[1], np.log(theirs[0]), at
    )
    return float(np.trapezoid(difference, at) / (high - low)), float(low), float(high)


def monotone_cubic(x: Floats, y: Floats, at: Floats) -> Floats:
    """Interpolate points of rising ``x`` without overshoot.

    Fritsch and Butland, SIAM J. Sci. Stat. Comput. 5 (1984).
    """
    width = np.diff(x)
    slope = np.diff(y) / width
    tangent = np.empty_like(y)
    tangent[0], tangent[-1] = slope[0], slope[-1]
    before, after = 2 * width[1:] + width[:-1], width[1:] + 2 * width[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (before + after) / (before / slope[:-1] + after / slope[1:])
    tangent[1:-1] = np.where(slope[:-1] * slope[1:] > 0, mean, 0.0)
    piece = np.clip(np.searchsorted(x, at, "right") - 1, 0, len(width) - 1)
    h = width[piece]
    t = (at - x[piece]) / h
    return np.asarray(
        y[piece] * (1 + 2 * t) * (1 - t) ** 2
        + y[piece + 1] * t**2 * (3 - 2 * t)
        + h * t * (1 - t) * (tangent[piece] * (1 - t) - tangent[piece + 1] * t),
        np.float64,
    )


def largest_fall(qualities: Iterable[float]) -> float:
    """Return by how many dB a sequence falls at most below a value before it; 0 if it never does."""
    best, fall = -math.inf, 0.0
    for quality in qualities:
        best = max(best, quality)
        fall = max(fall, best - quality) if math.isfinite(quality) else fall
    return fall
