"""The wavelet of pictures, CDF 9/7 by lifting: four levels, over three colours that are hardly correlated.

Cohen, Daubechies and Feauveau, 1992; Daubechies and Sweldens, 1998.  A sample of a band has the weight that
an orthonormal transform would give it, to a few per cent.  Frozen: bitstream_spec.md, "Wavelet".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

LEVELS = 4
STRIDE = 1 << LEVELS
BANDS = (12, 9, 9, 9)
"""Maps of each level, coarsest first: three colours of three details, and of the mean at the coarsest."""
UNITS = 16
"""Samples count this part of a grey level."""
SHIFT = 16
HALF = 1 << (SHIFT - 1)
PREDICT_1, UPDATE_1, PREDICT_2, UPDATE_2 = -103949, -3472, 57862, 29066
"""The lifting steps of the 9/7 wavelet, times 2^16."""
COLOURS = np.array([[37837, 37837, 37837], [46341, 0, -46341], [26755, -53510, 26755]], np.int64)
"""Red, green and blue of the unit of each colour, times 2^16."""
REACH = 64
"""No sample further away than that can change a pixel, nor a pixel a sample."""

Bands = Sequence[npt.NDArray[Any]]
Signal = npt.NDArray[Any]
Gains = tuple[tuple[int, ...], ...]


def _of_bands(gains: Gains) -> list[npt.NDArray[np.int64]]:
    """Return the gains of each level, one for each map."""
    return [np.repeat(np.array(level, np.int64), 3)[:, None, None] for level in gains]


GAINS = _of_bands(
    ((28392, 28392, 37522, 21483), (37522, 37522, 49589), (49589, 49589, 65536), (65536, 65536, 86612))
)
"""What each band of each level, coarsest first, is multiplied with before lifting, times 2^16.

A mean of an orthonormal transform is 1.1496 times as large as one of lifting, and a detail as much smaller.
"""
GAINS_BACK = _of_bands(
    ((151274, 151274, 114465, 199924), (114465, 114465, 86611), (86611, 86611, 65536), (65536, 65536, 49589))
)
"""What each band is multiplied with after lifting apart, times 2^16."""


def synthesised(bands: Bands) -> npt.NDArray[np.int64]:
    """Return the picture int64 (..., 3, H, W), red, green and blue, of its bands, both in 1/16 grey level.

    ``bands`` are integers (..., 12, h, w), (..., 9, 2h, 2w), (..., 9, 4h, 4w) and (..., 9, 8h, 8w), coarsest
    first; H is 16h.
    """
    scaled = [_times(band.astype(np.int64), gain) for band, gain in zip(bands, GAINS, strict=True)]
    mean = scaled[0][..., 9:, :, :]
    for details in scaled:
        across, down, both = (details[..., first : first + 3, :, :] for first in (0, 3, 6))
        mean = _joined(_joined(mean, across, -2), _joined(down, both, -2), -1)
    red_green_blue = [
        sum(mean[..., colour, :, :] * unit for colour, unit in enumerate(units)) for units in COLOURS.T
    ]
    picture: npt.NDArray[np.int64] = (np.stack(red_green_blue, -3) + HALF) >> SHIFT
    return picture


def analysed(picture: Signal) -> list[npt.NDArray[np.int64]]:
    """Return the bands, coarsest first, of which ``synthesised`` makes this picture, but for rounding.

    ``picture`` are integers (..., 3, H, W), red, green and blue, H and W multiples of 16, in 1/16 grey level.
    """
    picture = picture.astype(np.int64)
    red_green_blue = [picture[..., colour, :, :] for colour in range(3)]
    mean = np.stack(
        [(sum(map(np.multiply, red_green_blue, unit)) + HALF) >> SHIFT for unit in COLOURS.tolist()], -3
    )
    levels: list[npt.NDArray[np.int64]] = []
    for _ in range(LEVELS):
        low, high = _split(mean, -1)
        (mean, across), (down, both) = _split(low, -2), _split(high, -2)
        levels.append(np.concatenate([across, down, both], -3))
    levels[-1] = np.concatenate([levels[-1], mean], -3)
    return [_times(band, gain) for band, gain in zip(levels[::-1], GAINS_BACK, strict=True)]


def _times(x: Signal, factor: int | Signal) -> Signal:
    scaled: Signal = x * factor
    scaled += HALF
    scaled >>= SHIFT
    return scaled


def _at(axis: int, part: slice) -> tuple[Any, ...]:
    return (..., part) if axis == -1 else (..., part, slice(None))


def _after(x: Signal, axis: int) -> Signal:
    """Return the sum of each sample and the next one along an axis; the last one counts twice."""
    total = np.empty_like(x)
    first, later, last = (_at(axis, part) for part in (slice(-1), slice(1, None), slice(-1, None)))
    np.add(x[first], x[later], out=total[first])
    np.add(x[last], x[last], out=total[last])
    return total


def _before(x: Signal, axis: int) -> Signal:
    """Return the sum of each sample and the one before it along an axis; the first one counts twice."""
    total = np.empty_like(x)
    first, later, front = (_at(axis, part) for part in (slice(-1), slice(1, None), slice(1)))
    np.add(x[first], x[later], out=total[later])
    np.add(x[front], x[front], out=total[front])
    return total


def _joined(even: Signal, odd: Signal, axis: int) -> Signal:
    """Undo the lifting along an axis, and interleave."""
    even = even - _times(_before(odd, axis), UPDATE_2)
    odd = odd - _times(_after(even, axis), PREDICT_2)
    even = even - _times(_before(odd, axis), UPDATE_1)
    odd = odd - _times(_after(even, axis), PREDICT_1)
    shape = [*even.shape]
    shape[axis] *= 2
    joined = np.empty(shape, even.dtype)
    joined[_at(axis, slice(0, None, 2))] = even
    joined[_at(axis, slice(1, None, 2))] = odd
    return joined


def _split(x: Signal, axis: int) -> tuple[Signal, Signal]:
    """Return means and details of lifting along an axis: what ``_joined`` undoes."""
    even, odd = (x[_at(axis, slice(first, None, 2))] for first in (0, 1))
    odd = odd + _times(_after(even, axis), PREDICT_1)
    even = even + _times(_before(odd, axis), UPDATE_1)
    odd = odd + _times(_after(even, axis), PREDICT_2)
    even = even + _times(_before(odd, axis), UPDATE_2)
    return even, odd
