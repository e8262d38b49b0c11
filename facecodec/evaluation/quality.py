"""How near a decoded picture is to its original: PSNR and MS-SSIM.

MS-SSIM is our own: the libraries refuse pictures below 161 pixels a side, and faces are often smaller.  Where
all five scales fit, it is the figure that pytorch-msssim gives.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(a: Pixels, b: Pixels) -> float:
    """Return the PSNR in dB over all channels of two uint8 pictures; infinite if they are equal."""
    error = float(np.square(a.astype(np.float64) - b).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def ms_ssim(a: Pixels, b: Pixels) -> float:
    """Return the MS-SSIM of two uint8 RGB pictures (H, W, 3), 0..1, the mean of the three channels.

    Wang, Simoncelli and Bovik, Asilomar 2003, with a scale for each halving that leaves 11 pixels a side, at
    most five; the weights of fewer are scaled to sum to 1.
    """
    scales = min(len(WEIGHTS), int(math.log2(min(a.shape[:2]) / WINDOW)) + 1)
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    return float(np.mean([_channel(a[..., c], b[..., c], weights) for c in range(a.shape[2])]))


def decibels(similarity: float) -> float:
    """Return an MS-SSIM in dB, -10 log10(1 - MS-SSIM): even steps for even gains near 1."""
    return -10 * math.log10(1 - similarity) if similarity < 1 else math.inf


def _channel(a: Pixels, b: Pixels, weights: Floats) -> float:
    """Return the MS-SSIM of one channel (H, W): one at a time keeps memory small."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    product = 1.0
    for scale, weight in enumerate(weights, 1):
        luminance, structure = _ssim(x, y)
        similar = luminance * structure if scale == len(weights) else structure
        product *= max(float(similar.mean()), 0.0) ** float(weight)
        x, y = _halved(x), _halved(y)
    return product


def _ssim(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return maps of the luminance and the contrast-structure terms."""
    mean_x, mean_y = _blurred(x), _blurred(y)
    xx, yy, xy = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2, _blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance, (2 * xy + C2) / (xx + yy + C2)


def _blurred(x: Floats) -> Floats:
    """Return the means under the window, wherever it lies within the map."""
    edge = WINDOW // 2
    blurred = cv2.GaussianBlur(x, (WINDOW, WINDOW), SIGMA)
    return np.asarray(blurred[edge:-edge, edge:-edge], np.float64)


def _halved(x: Floats) -> Floats:
    height, width = (size // 2 for size in x.shape[:2])
    even = x[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
    return np.asarray(even.mean((1, 3)), np.float64)
