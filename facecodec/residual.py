"""The exact residual: what the fully decoded picture still lacks of the very pixels.

Each channel's difference is coded with one of 28 two-sided geometric tables, named for each context of its
channel; the context is the activity of the decoded picture, and for red and blue the difference of green.
Frozen: bitstream_spec.md, "Exact residual".
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import CorruptError
from .rans import Decoder, Table, encode

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[Any]

ACTIVITIES = np.array([2, 4, 7, 11, 17, 27, 45])
"""Thresholds between the eight classes of activity."""
GREENS = np.array([1, 2, 4])
"""Thresholds between the four classes of green's difference."""
TABLES = 28
GREEN_CONTEXTS = len(ACTIVITIES) + 1
OTHER_CONTEXTS = GREEN_CONTEXTS * (len(GREENS) + 1)
SHARES = 5
"""Red and blue are coded less k/4 of green's difference, k = 0..4."""
SIDE_BYTES = 2 + GREEN_CONTEXTS + 2 * OTHER_CONTEXTS
GREEN, RED, BLUE = 1, 0, 2


def frequencies(index: int) -> Integers:
    """Return the frequencies int64 (256,) of differences -128..127 in table ``index``, sum 2^16."""
    k = index + 4
    weights = [1 << 40]
    for _ in range(128):
        weights.append(weights[-1] * k // 32)
    spread = [weights[abs(d)] for d in range(-128, 128)]
    total = sum(spread)
    shares = [1 + weight * (65536 - 256) // total for weight in spread]
    shares[128] += 65536 - sum(shares)
    return np.array(shares, np.int64)


@cache
def _tables() -> tuple[Table, ...]:
    return tuple(Table(frequencies(index)) for index in range(TABLES))


def _wrapped(values: Integers) -> Integers:
    """Return integers modulo 256 as -128..127, int16."""
    return values.astype(np.int8).astype(np.int16)


def _activity(picture: Pixels) -> Integers:
    """Return the class 0..7 of each pixel, uint8 (H, W): how much the decoded picture changes around it."""
    padded = np.pad(picture.sum(2, dtype=np.int16), 1, "edge")
    change = np.abs(padded[1:-1, 2:] - padded[1:-1, :-2]) + np.abs(padded[2:, 1:-1] - padded[:-2, 1:-1])
    return _classes(change, 3 * ACTIVITIES)


def _classes(values: Integers, thresholds: Integers) -> Integers:
    """Return how many thresholds each value reaches, uint8; in less memory than ``searchsorted``."""
    classes = np.zeros(values.shape, np.uint8)
    for threshold in thresholds:
        classes += values >= threshold
    return classes


def _masks(context: Integers, contexts: int) -> Iterator[Integers]:
    """Yield the positions, in raster order, of each context."""
    for value in range(contexts):
        yield np.flatnonzero(context == value)


def encode_exact(pixels: Pixels, decoded: Pixels) -> bytes:
    """Return the payload of the Residual section that turns ``decoded`` into ``pixels``, uint8 (H, W, 3)."""
    difference = _wrapped(pixels - decoded).reshape(-1, 3)
    green = difference[:, GREEN]
    activity = _activity(decoded).ravel()
    shares, choices, groups = [], [], []
    for channel in (GREEN, RED, BLUE):
        if channel == GREEN:
            coded, context, contexts = green, activity, GREEN_CONTEXTS
        else:
            trials = [_wrapped(difference[:, channel] - (green * k >> 2)) for k in range(SHARES)]
            best = int(np.argmin([np.abs(trial).sum() for trial in trials]))
            shares.append(best)
            coded, context, contexts = trials[best], _other_context(activity, green), OTHER_CONTEXTS
        for positions in _masks(context, contexts):
            symbols = coded[positions] + 128
            choice = _best_table(symbols)
            choices.append(choice)
            groups.append((symbols, _tables()[choice]))
    return bytes(shares) + bytes(choices) + encode(groups)


def _other_context(activity: Integers, green: Integers) -> Integers:
    context: Integers = activity * np.uint8(len(GREENS) + 1) + _classes(np.abs(green), GREENS)
    return context


@cache
def _bits() -> npt.NDArray[np.float64]:
    """Return what each symbol costs in each table, but for a constant: (28, 256)."""
    return -np.log2(np.array([frequencies(index) for index in range(TABLES)]))


def _best_table(symbols: Integers) -> int:
    return int(np.argmin(_bits() @ np.bincount(symbols, minlength=256)))


def decode(payload: bytes, decoded: Pixels) -> Pixels:
    """Return the very pixels (H, W, 3) from the payload and the decoded picture; raises CorruptError."""
    side, words = payload[:SIDE_BYTES], payload[SIDE_BYTES:]
    shares, choices = side[:2], iter(side[2:])
    if len(side) < SIDE_BYTES or max(shares) >= SHARES or max(side[2:]) >= TABLES:
        raise CorruptError("the residual section names a table or a share that does not exist")
    decoder = Decoder(words)
    activity = _activity(decoded).ravel()

    def channel(context: Integers, contexts: int) -> Integers:
        values = np.empty(context.size, np.int16)
        for positions in _masks(context, contexts):
            values[positions] = decoder.take(positions.size, _tables()[next(choices)]) - 128
        return values

    difference = np.empty((activity.size, 3), np.uint8)  # modulo 256, as is their sum
    green = channel(activity, GREEN_CONTEXTS)
    difference[:, GREEN] = green.astype(np.uint8)
    for index, share in zip((RED, BLUE), shares, strict=True):
        coded = channel(_other_context(activity, green), OTHER_CONTEXTS)
        difference[:, index] = (coded + (green * share >> 2)).astype(np.uint8)
    decoder.finish()
    return decoded + difference.reshape(decoded.shape)
