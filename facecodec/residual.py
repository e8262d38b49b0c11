"""The exact residual: what the decoded picture still lacks of the very pixels.

Green, then red, then blue is coded front by front: a front is the pixels (r, c) of one c + 2r, from the left.
A pixel is foretold by a weighted sum over a window of each colour so far: pixels that are known already, and
the decoded one in the place of the pixel itself.  How much that fails is coded with one of 64 two-sided
tables, named for each of 16 contexts of its colour; the context is how much it failed for the neighbours.
Frozen: bitstream_spec.md, "Exact residual".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import CorruptError
from .rans import Decoder, Group, Table, encode_reverse

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[Any]

CHANNELS = (1, 0, 2)
"""The colours in the order of the stream: green, red, blue."""
WINDOW = [*((-2, x) for x in range(-2, 3)), *((-1, x) for x in range(-2, 2)), *((0, x) for x in range(-2, 1))]
"""Rows and columns from a pixel to those that foretell it; the last is its own place."""
LEFT = WINDOW.index((0, -1))
WEIGHTS = len(WINDOW) - 1
"""Weights that a window has in the file: that of its left pixel follows from them."""
UNIT = 64
"""The weight of 1."""
FAILURES = {(0, -1): 2, (-1, 0): 2, (-1, -1): 1, (-1, 1): 1, (0, -2): 1, (-2, 0): 1}
"""Weights of the neighbours' failures."""
THRESHOLDS = np.array([1, 3, 5, 8, 12, 17, 24, 32, 43, 58, 76, 100, 135, 200, 350])
"""Thresholds between the contexts of their sum."""
CONTEXTS = len(THRESHOLDS) + 1
TABLES = 64
SIDE_BYTES = (1 + 2 + 3) * WEIGHTS + 3 * CONTEXTS
ABOVE = BESIDE = 2
"""Rows above and columns on each side of a picture that the windows of its pixels reach."""
SLICE = 1 << 17
"""Samples at work at once; bounds memory, and changes nothing else."""


def frequencies(index: int) -> Integers:
    """Return the frequencies int64 (256,) of failures -128..127 in table ``index``, sum 2^16."""
    power, step = 2 + 2 * (index // 32), index % 32
    width = 6
    for _ in range(step):
        width += width * 7 // 16
    spread = [(1 << 96) // (width + 64 * d * d) ** power for d in range(-128, 128)]
    total = sum(spread)
    shares = [1 + weight * (65536 - 256) // total for weight in spread]
    shares[128] += 65536 - sum(shares)
    return np.array(shares, np.int64)


@cache
def _tables() -> tuple[Table, ...]:
    return tuple(Table(frequencies(index)) for index in range(TABLES))


def _pitch(width: int) -> int:
    return width + 2 * BESIDE


def _fronts(height: int, width: int) -> range:
    return range(width + 2 * (height - 1))


def _places(front: int, height: int, width: int) -> Integers:
    """Return the places of a front, from the top, in a padded plane."""
    pitch = _pitch(width)
    top, end = max(0, (front - width + 2) // 2), min(height, front // 2 + 1)
    start = (ABOVE + top) * pitch + BESIDE + front - 2 * top
    return start + np.arange(end - top) * (pitch - 2)


def _by_context(contexts: Integers) -> Iterator[tuple[int, Integers]]:
    """Yield the contexts that there are, rising, and who has them."""
    order = contexts.argsort(kind="stable")
    end = 0
    for context, count in enumerate(np.bincount(contexts).tolist()):
        if count:
            start, end = end, end + count
            yield context, order[start:end]


def _whole(weights: Integers) -> Integers:
    """Return the weights (planes, 12) of windows whose left pixel is given what the others leave."""
    left = -weights.sum(1, dtype=np.int32)
    left[0] += UNIT
    return np.insert(weights.astype(np.int32), LEFT, left, 1)


def _weighted(weights: Integers, values: Integers) -> Integers:
    """Return the sums of values (n, count), each row times its weight (n,)."""
    sums: Integers = np.einsum("i,ij->j", weights, values)
    return sums


@cache
def _contexts() -> Pixels:
    """Return the context of each sum of failures, uint8."""
    sums = np.arange(255 * sum(FAILURES.values()) + 1)
    return THRESHOLDS.searchsorted(sums, "right").astype(np.uint8)


def _predicted(sums: Integers) -> Integers:
    """Return the prediction int16 from the weighted sum of windows, which is spent."""
    sums += UNIT // 2
    sums >>= 6
    return np.minimum(np.maximum(sums, 0), 255).astype(np.int16)


def decode(payload: bytes, decoded: Pixels) -> Pixels:
    """Return the very pixels (H, W, 3) from the payload and the decoded picture; raises CorruptError."""
    side = np.frombuffer(payload[:SIDE_BYTES], np.uint8)
    if side.size < SIDE_BYTES or side[-3 * CONTEXTS :].max() >= TABLES:
        raise CorruptError("the residual section names a table that does not exist")
    weights = side[: -3 * CONTEXTS].view(np.int8).reshape(-1, WEIGHTS)
    tables = [[_tables()[index] for index in row] for row in side[-3 * CONTEXTS :].reshape(3, CONTEXTS)]
    decoder = Decoder(payload[SIDE_BYTES:])
    height, width = decoded.shape[:2]
    planes = np.stack([_padded(decoded[:, :, channel]) for channel in CHANNELS])
    steps = np.array([y * _pitch(width) + x for y, x in WINDOW])
    around = np.array([y * _pitch(width) + x for y, x in FAILURES])[:, None]
    share = np.array([*FAILURES.values()], np.int16)
    flat, size = planes.reshape(-1), planes[0].size
    for index, choices in enumerate(tables):
        windows = np.concatenate([size * plane + steps for plane in _windows(index)])[:, None]
        whole = _whole(weights[_own(index)]).ravel()
        failures, exact = np.zeros(size, np.uint8), flat[size * index :]
        for front in _fronts(height, width):
            place = _places(front, height, width)
            predicted = _predicted(_weighted(whole, flat.take(windows + place)))
            contexts = _contexts()[_weighted(share, failures.take(around + place))]
            symbols = np.empty(place.size, np.int16)
            for context, chosen in _by_context(contexts):
                symbols[chosen] = decoder.take(chosen.size, choices[context])
            found = predicted + symbols - 128 & 255
            exact[place] = found
            failures[place] = np.abs(found - predicted)
    decoder.finish()
    inner = planes[:, ABOVE:, BESIDE:-BESIDE]
    return np.stack([inner[CHANNELS.index(channel)] for channel in range(3)], 2)


def _windows(index: int) -> Sequence[int]:
    """Return which planes foretell one of them: itself, then the earlier ones."""
    return [index, *range(index)]


def _own(index: int) -> slice:
    """Return which windows of the file are those of a plane."""
    start = index * (index + 1) // 2
    return slice(start, start + index + 1)


def _padded(plane: Pixels) -> Pixels:
    return np.pad(plane, ((ABOVE, 0), (BESIDE, BESIDE)), "edge")


def encode(
    pixels: Pixels,
    decoded: Pixels,
    weights: npt.NDArray[np.int8],
    choose: Callable[[Integers], Sequence[int]],
) -> bytes:
    """Return the payload of the Residual section that turns ``decoded`` into ``pixels``, uint8 (H, W, 3).

    ``weights`` (6, 11) are those of the windows.  ``choose`` returns 16 tables, one a context of a plane,
    0..63, of how often each failure -128..127 is met in each: counts (16, 256).
    """
    height, width = pixels.shape[:2]
    choices: dict[int, Sequence[int]] = {}

    def backwards(index: int) -> Iterator[Group]:
        symbols, contexts, counts = _coded(pixels, decoded, index, weights[_own(index)])
        choices[index] = choose(counts)
        tables = [_tables()[choice] for choice in choices[index]]
        for front in reversed(_fronts(height, width)):
            place = _places(front, height, width)
            group = symbols.take(place)
            for context, chosen in reversed([*_by_context(contexts.take(place))]):
                yield group[chosen], tables[context]

    words = encode_reverse(chain.from_iterable(map(backwards, reversed(range(3)))))
    return weights.tobytes() + bytes([*choices[0], *choices[1], *choices[2]]) + words


def _coded(pixels: Pixels, decoded: Pixels, index: int, weights: Integers) -> tuple[Pixels, Pixels, Integers]:
    """Return symbols and contexts of a plane, uint8 and padded, and how often (16, 256) both meet."""
    height, width = pixels.shape[:2]
    shape = height + ABOVE, _pitch(width)
    symbols, contexts, failures = (np.zeros(shape, np.uint8) for _ in range(3))
    counts = np.zeros(CONTEXTS * 256, np.int64)
    whole = _whole(weights).ravel().tolist()
    rows = max(1, SLICE // width)
    for top in range(0, height, rows):
        strip = np.arange(top, min(height, top + rows))
        sums = np.zeros((strip.size, width), np.int32)
        for weight, values in zip(whole, near(pixels, decoded, index, strip), strict=True):
            if weight:
                sums += np.multiply(values, weight, dtype=np.int32)
        failed = pixels[strip, :, CHANNELS[index]] - _predicted(sums)
        inner = slice(ABOVE + top, ABOVE + top + strip.size), slice(BESIDE, BESIDE + width)
        failures[inner] = np.abs(failed)
        symbols[inner] = failed + 128 & 255
        around = np.zeros(failed.shape, np.int16)
        for (y, x), share in FAILURES.items():
            shifted = failures[inner[0].start + y : inner[0].stop + y, BESIDE + x : BESIDE + x + width]
            around += np.multiply(shifted, share, dtype=np.int16)
        contexts[inner] = _contexts()[around]
        both = contexts[inner] * np.uint16(256) + symbols[inner]
        counts += np.bincount(both.ravel(), minlength=counts.size)
    return symbols, contexts, counts.reshape(CONTEXTS, 256)


def near(pixels: Pixels, decoded: Pixels, index: int, rows: Integers) -> Iterator[Pixels]:
    """Yield the pixels (rows, W) at each place of the windows of those in these rows of a plane."""
    width = pixels.shape[1]
    for plane in _windows(index):
        channel = CHANNELS[plane]
        for y in range(-ABOVE, 1):
            at = rows + y
            line = np.pad(decoded[at.clip(0), :, channel], ((0, 0), (BESIDE, BESIDE)), "edge")
            guess = line[:, BESIDE:-BESIDE].copy()
            line[at >= 0, BESIDE:-BESIDE] = pixels[at[at >= 0], :, channel]
            for x in (x for row, x in WINDOW if row == y):
                itself = plane == index and (y, x) == (0, 0)
                yield guess if itself else line[:, BESIDE + x : BESIDE + x + width]
