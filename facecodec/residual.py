"""The exact residual: what the fully decoded picture still lacks of the very pixels.

Each channel's difference is coded with one of 28 two-sided geometric tables, named for each context of its
channel; the context is the activity of the decoded picture, and for red and blue the difference of green.
Frozen: bitstream_spec.md, "Exact residual".
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import CorruptError
from .rans import Decoder, Group, Table, encode_reverse

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
SLICE = 1 << 20
"""Samples at work at once; bounds memory, and changes nothing else."""


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


def _slices(size: int) -> Iterator[slice]:
    for start in range(0, size, SLICE):
        yield slice(start, min(size, start + SLICE))


def _activity(picture: Pixels) -> Integers:
    """Return the class 0..7 of each pixel, uint8 (H, W): how much the decoded picture changes around it."""
    height, width = picture.shape[:2]
    activity = np.empty((height, width), np.uint8)
    rows = max(1, SLICE // width)
    for top in range(0, height, rows):
        strip = picture[max(0, top - 1) : top + rows + 1].sum(2, dtype=np.int16)
        padded = np.pad(strip, ((top == 0, top + rows >= height), (1, 1)), "edge")
        across, down = padded[1:-1, 2:] - padded[1:-1, :-2], padded[2:, 1:-1] - padded[:-2, 1:-1]
        activity[top : top + rows] = _classes(np.abs(across) + np.abs(down), 3 * ACTIVITIES)
    return activity


def _classes(values: Integers, thresholds: Integers) -> Integers:
    """Return how many thresholds each value reaches, uint8."""
    classes = np.zeros(values.shape, np.uint8)
    for threshold in thresholds:
        classes += values >= threshold
    return classes


def _other_context(activity: Integers, green: Integers) -> Integers:
    """Return the context of red and blue, uint8, from the activity and the difference of green, int8."""
    context = np.empty(green.size, np.uint8)
    for part in _slices(green.size):
        magnitude = np.abs(green[part]).view(np.uint8)
        context[part] = activity[part] * np.uint8(len(GREENS) + 1) + _classes(magnitude, GREENS)
    return context


def _foretold(green: Integers, share: int) -> Integers:
    """Return what green's difference, int8, says of another's: int8, modulo 256."""
    foretold: Integers = (green.astype(np.int16) * share >> 2).astype(np.int8)
    return foretold


def encode_exact(pixels: Pixels, decoded: Pixels) -> bytes:
    """Return the payload of the Residual section that turns ``decoded`` into ``pixels``, uint8 (H, W, 3)."""

    def missing(channel: int) -> Integers:
        difference: Integers = (pixels[:, :, channel] - decoded[:, :, channel]).view(np.int8).ravel()
        return difference

    green = missing(GREEN)
    other = _other_context(_activity(decoded).ravel(), green)
    shares = {channel: _best_share(missing(channel), green) for channel in (RED, BLUE)}
    contexts = {GREEN: GREEN_CONTEXTS, RED: OTHER_CONTEXTS, BLUE: OTHER_CONTEXTS}

    def coded(channel: int) -> tuple[Integers, Integers]:
        """Return what is coded of a channel, int8, and its context, uint8."""
        if channel == GREEN:
            return green, other // (len(GREENS) + 1)
        rest = missing(channel)
        for part in _slices(rest.size):
            rest[part] -= _foretold(green[part], shares[channel])
        return rest, other

    choices: dict[int, list[int]] = {}
    for channel, count in contexts.items():
        values, context = coded(channel)
        choices[channel] = [_best_table(_symbols(values, context == value)) for value in range(count)]

    def backwards(channel: int) -> Iterator[Group]:
        values, context = coded(channel)
        for value, choice in reversed([*enumerate(choices[channel])]):
            symbols = _symbols(values, context == value)
            for part in reversed([*_slices(symbols.size)]):
                yield symbols[part], _tables()[choice]

    side = [*shares.values(), *choices[GREEN], *choices[RED], *choices[BLUE]]
    return bytes(side) + encode_reverse(chain.from_iterable(map(backwards, reversed(contexts))))


def _symbols(values: Integers, chosen: Integers) -> Integers:
    """Return the symbols, uint8, of the chosen values, int8."""
    symbols: Integers = values[chosen].view(np.uint8)
    symbols ^= 128
    return symbols


def _best_share(coded: Integers, green: Integers) -> int:
    """Return the share of green's difference that leaves the least of another's, both int8."""
    left = np.zeros(SHARES, np.int64)
    for part in _slices(coded.size):
        for share in range(SHARES):
            rest = coded[part] - _foretold(green[part], share)
            left[share] += np.abs(rest.astype(np.int16)).sum(dtype=np.int64)
    return int(np.argmin(left))


@cache
def _bits() -> npt.NDArray[np.float64]:
    """Return what each symbol costs in each table, but for a constant: (28, 256)."""
    bits: npt.NDArray[np.float64] = -np.log2(np.array([frequencies(index) for index in range(TABLES)]))
    return bits


def _best_table(symbols: Integers) -> int:
    counts = np.zeros(256, np.int64)
    for part in _slices(symbols.size):
        counts += np.bincount(symbols[part], minlength=256)
    return int(np.argmin(_bits() @ counts))


def decode(payload: bytes, decoded: Pixels) -> Pixels:
    """Return the very pixels (H, W, 3) from the payload and the decoded picture; raises CorruptError."""
    side, words = payload[:SIDE_BYTES], payload[SIDE_BYTES:]
    shares, choices = side[:2], iter(side[2:])
    if len(side) < SIDE_BYTES or max(shares) >= SHARES or max(side[2:]) >= TABLES:
        raise CorruptError("the residual section names a table or a share that does not exist")
    decoder = Decoder(words)

    def read(context: Integers, contexts: int) -> Integers:
        coded = np.empty(context.size, np.int8)
        for value in range(contexts):
            chosen = context == value
            symbols, table = np.empty(np.count_nonzero(chosen), np.uint8), _tables()[next(choices)]
            for part in _slices(symbols.size):
                symbols[part] = decoder.take(part.stop - part.start, table)
            coded[chosen] = (symbols ^ 128).view(np.int8)
        return coded

    pixels: Pixels = decoded.copy()
    samples, activity = pixels.reshape(-1, 3), _activity(decoded).ravel()
    green = read(activity, GREEN_CONTEXTS)
    samples[:, GREEN] += green.view(np.uint8)
    context = _other_context(activity, green)
    for channel, share in zip((RED, BLUE), shares, strict=True):
        coded = read(context, OTHER_CONTEXTS)
        for part in _slices(coded.size):
            coded[part] += _foretold(green[part], share)
        samples[:, channel] += coded.view(np.uint8)
    decoder.finish()
    return pixels
