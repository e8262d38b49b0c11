"""Faces that are too dark or out of focus, made like others before they are embedded.

Free side: embeddings of bad photographs come nearer to those of good ones, and no file means anything else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from facecodec import faces

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

LIGHT = 90
"""The mean of 15 % of everyday faces is below this."""
COARSE, FINE = (0.07, 0.11), (0.17, 0.23)
"""Two bands of frequencies, in cycles a pixel, of which blur takes the second one first."""
FALL = 3.1
"""Logarithm of how much stronger the coarse band is in everyday faces, in the median."""
SLOPE = 1.08
"""What a Gaussian blur adds to that for each pixel^2 of its variance."""
BLURRED = 1.3
"""Pixels of blur that 0.5 % of everyday faces seem to have."""
FOCUS = 0.8
"""The share of the blur, in pixels, that is taken back."""
MOST = 3.0
NOISE = 0.03
"""Power of noise in that of the picture, for the Wiener filter."""
BORDER = 16
FAINT = 1.0
"""Power of a band that is nothing but rounding."""


def restored(views: Pixels) -> Pixels:
    """Return faces uint8 (N, 112, 112, 3), the dark ones brightened, the blurred ones sharpened."""
    return focused(lit(views))


def lit(views: Pixels) -> Pixels:
    """Return faces uint8 (N, H, W, 3) of which none is darker, on average, than ``LIGHT``, up to clipping."""
    means = views.mean((1, 2, 3))
    if means.min(initial=LIGHT) >= LIGHT:
        return views
    result: Pixels = views.copy()
    for index in np.flatnonzero(means < LIGHT):
        levels = np.minimum(np.arange(256) * LIGHT / max(means[index], 1.0) + 0.5, 255).astype(np.uint8)
        result[index] = levels[views[index]]
    return result


def focused(views: Pixels) -> Pixels:
    """Return faces uint8 (N, 112, 112, 3), sharpened where more than ``BLURRED`` pixels of blur are seen.

    By the filter of Wiener (1949), for a Gaussian blur of the width that each face seems to have.
    """
    blur = blurs(views)
    if blur.max(initial=0) <= BLURRED:
        return views
    result: Pixels = views.copy()
    for index in np.flatnonzero(blur > BLURRED):
        result[index] = _sharpened(views[index], FOCUS * min(blur[index], MOST))
    return result


def blurs(views: Pixels) -> Floats:
    """Return the Gaussian blur of faces uint8 (N, 112, 112, 3): its standard deviation in pixels, 0 if none.

    From how fast the power of green falls with frequency: +-0.2 at 2 pixels.
    """
    green = torch.from_numpy(views[..., 1]).float()
    window = torch.hann_window(faces.FRAME, periodic=False)
    spectrum = torch.fft.rfft2((green - green.mean((1, 2), keepdim=True)) * torch.outer(window, window))
    power = torch.view_as_real(spectrum).square().sum(3).numpy()
    frequency = _frequency(faces.FRAME, np.fft.rfftfreq)
    coarse, fine = (
        power[:, (frequency >= low) & (frequency < high)].mean(1) + FAINT for low, high in (COARSE, FINE)
    )
    variance = (np.log(coarse / fine) - FALL) / SLOPE
    result: Floats = np.sqrt(variance.clip(0))
    return result


def _sharpened(view: Pixels, sigma: float) -> Pixels:
    """Return a view (H, W, 3) without a Gaussian blur of ``sigma`` pixels."""
    edged = np.pad(view.astype(np.float32), ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), "reflect")
    blur = np.exp(-2 * (np.pi * sigma * _frequency(len(edged), np.fft.fftfreq)) ** 2)[:, :, None]
    wiener = blur * (1 + NOISE) / (blur**2 + NOISE)
    sharp = np.fft.ifft2(np.fft.fft2(edged, axes=(0, 1)) * wiener, axes=(0, 1)).real
    inner = sharp[BORDER:-BORDER, BORDER:-BORDER]
    result: Pixels = np.floor(inner + 0.5).clip(0, 255).astype(np.uint8)
    return result


def _frequency(size: int, columns: Any) -> npt.NDArray[np.float64]:
    """Return cycles a pixel of a transform of ``size`` rows, and of columns as ``columns`` counts them."""
    result: npt.NDArray[np.float64] = np.hypot(np.fft.fftfreq(size)[:, None], columns(size)[None])
    return result
