"""What is known of the latents of a picture: trits of their cells, and whose turn is next.

A latent is a sample of a band of the wavelet, in steps of four grey levels.  Its cells are nested thirds: a
trit of each plane, from the coarsest to the finest, says in which third of its cell the latent is.  A plane
takes three turns: first those latents are refined of which a bit is likely to tell the most, last all others.
Before a plane begins, the filter says of each latent where in its cell, or beside it, it is to be expected.
Frozen: bitstream_spec.md, "Latents".
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .wavelet import BANDS, STRIDE

PLANES = 8
PARTS = 3
"""Turns that a plane takes."""
TURNS = PLANES * PARTS
FIRST = (0, 1, 2, 3)
"""The first plane of each level of the wavelet, coarsest first: finer ones have smaller samples."""
STEP_UNITS = 64
"""A finest step is four grey levels, of which the wavelet's samples count sixteenths."""
ZEROS, LEANS = 51, 17
"""Tables of a trit differ in how likely it is 0, and in which way it leans if not."""
TABLES = ZEROS * LEANS
WIDTHS = np.array([3 ** (PLANES - known) for known in range(PLANES + 1)], np.int16)
"""How many finest cells those are wide of which so many planes are known."""
INVERSE_SHIFT = 40
INVERSES = ((1 << INVERSE_SHIFT) + WIDTHS.astype(np.int64) // 2) // WIDTHS
"""2^40 divided by widths, halves up."""
SIGNED_TOP, SIGNED_UNITS = 9, 8
MAGNITUDES = 64
GONE_UNITS = 2
PART_UNITS = 32
OFFSET_MIDDLE = 128
OFFSETS = 25
"""Tables that planes and bands tell differ in where in its cell a latent is expected."""
OFFSET_TOP, OFFSET_START, OFFSET_SHIFT = 96, 100, 3

Integers = npt.NDArray[Any]


@dataclass(eq=False)
class Latents:
    """The latents of a picture of ``height`` x ``width`` blocks of 16 x 16 pixels.

    ``cell`` int16 (n,) is the place of each among the cells of its width, 0 around zero, and ``known`` uint8
    (n,) how many planes are behind it.  Levels follow each other, coarsest first.
    """

    height: int
    width: int
    cell: npt.NDArray[np.int16]
    known: npt.NDArray[np.uint8]

    @classmethod
    def unknown(cls, height: int, width: int) -> Latents:
        """Return latents of which nothing is known."""
        sizes = [bands * height * width << 2 * level for level, bands in enumerate(BANDS)]
        known = np.repeat(np.array(FIRST, np.uint8), sizes)
        return cls(height, width, np.zeros(known.size, np.int16), known)

    def levels(self, flat: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Return views (C, h, w) of each level, coarsest first, of an array (n,)."""
        shapes = [(bands, self.height << level, self.width << level) for level, bands in enumerate(BANDS)]
        bounds = np.cumsum([0, *(np.prod(shape) for shape in shapes)]).tolist()
        return [
            flat[first:end].reshape(shape)
            for (first, end), shape in zip(pairwise(bounds), shapes, strict=True)
        ]


def blocks(size: int) -> int:
    """Return how many blocks of 16 pixels cover so many pixels."""
    return -(-size // STRIDE)


def gone(turn: int | Integers, delay: Integers) -> Integers:
    """Return the turns, from -1, that blocks (..., h, w) have seen before this one; 24 if that was the last.

    ``delay`` is how many turns each of them is put off.
    """
    turns: Integers = np.clip(np.subtract(turn, delay, dtype=np.int16), -1, TURNS).astype(np.int8)
    return turns


def depth(gone: Integers, part: int | Integers) -> npt.NDArray[np.uint8]:
    """Return what the filter is told of blocks, (..., 2, h, w): how far they have come, twice.

    ``gone`` (..., 1, h, w) are the turns that they had seen before the last one, ``part`` (-1, 0 or 1) is how
    much of this one has come.  The first map counts halves of a turn, 0..48: to it the end of a turn is the
    beginning of the next.  To the second it is not: what the tables of the next turn say of latents is known
    then, too.
    """
    here = np.where(gone < 0, -1, np.where(gone < TURNS, part, 1)).astype(np.int16)
    halves = np.clip(GONE_UNITS * gone.astype(np.int16) + here, 0, GONE_UNITS * TURNS)
    return np.concatenate([halves, PART_UNITS * (here + 1)], -3).astype(np.uint8)


def magnified(blocks: npt.NDArray[Any], level: int) -> npt.NDArray[Any]:
    """Return a map (..., h, w) of blocks on the grid of a level (..., h << level, w << level)."""
    return blocks.repeat(1 << level, axis=-2).repeat(1 << level, axis=-1)


def open_in(known: Integers, gone: Integers, level: int) -> npt.NDArray[np.bool_]:
    """Tell which latents (..., C, h, w) of a level wait for the trit of the plane of their block's turn.

    ``gone`` (..., 1, h, w) is of the same grid.
    """
    plane = gone // PARTS
    waiting: npt.NDArray[np.bool_] = (known == plane) & (plane >= FIRST[level]) & (plane < PLANES)
    return waiting


def due(
    known: Integers, gone: Integers, told: Integers, level: int, thresholds: Integers
) -> npt.NDArray[np.bool_]:
    """Tell which latents of a level are refined in a turn: those that wait, and whose tables come first.

    ``told`` names their tables.  ``thresholds`` (3,) are how many tables have their turn, in each turn of a
    plane; nothing is left for the next plane.
    """
    part = gone % PARTS
    chosen: npt.NDArray[np.bool_] = open_in(known, gone, level) & (told < thresholds[part])
    return chosen


def offset(cell: Integers, known: Integers, expected: Integers) -> npt.NDArray[np.int16]:
    """Return where latents are expected, from the middles of their cells, in 1/64 of their width, -128..127.

    ``expected`` int32 are samples in 1/16 grey level, below 2^22 in magnitude.
    """
    # Widths are odd: no quotient is nearer than 1 / (2 width) to a half, and a product is less than that off.
    off = INVERSES.take(known) * expected
    off += 1 << (INVERSE_SHIFT - 1)
    off >>= INVERSE_SHIFT
    near: npt.NDArray[np.int16] = np.clip(off - np.int64(STEP_UNITS) * cell, -128, 127).astype(np.int16)
    return near


def seen(
    cell: Integers,
    known: Integers,
    gone: Integers,
    offset: Integers,
    level: int,
    magnitude: npt.NDArray[np.uint8],
) -> npt.NDArray[np.uint8]:
    """Return what networks see of a level, uint8 (..., 3 C + 1, h, w): values, magnitudes, turns, offsets.

    Values count thirds of the cells of a plane's beginning, from the least one.  ``magnitude`` (2, 64) says
    how large a latent is expected to be: that has its trit of the plane, or waits for it.
    """
    plane = gone // PARTS
    undecided = ((known <= plane) | (plane < FIRST[level])).view(np.uint8)
    value = cell + 2 * undecided * cell
    signed = np.clip(value, -SIGNED_TOP, SIGNED_TOP) + np.int16(SIGNED_TOP)
    size = np.abs(np.clip(value, 1 - MAGNITUDES, MAGNITUDES - 1)).view(np.uint16)
    large = magnitude.take(size + MAGNITUDES * undecided)
    passed = GONE_UNITS * np.clip(gone, 0, TURNS - 1)
    parts = [SIGNED_UNITS * signed, large, passed, offset + OFFSET_MIDDLE]
    return np.concatenate(parts, -3, dtype=np.uint8, casting="unsafe")


def first_table(cell: Integers, gone: Integers, offset: Integers) -> tuple[Integers, Integers]:
    """Return which of the first tables (8, 3, C, 25), counted on, is that of latents, and in which direction.

    A table is of a plane, of cells around zero, next to that, and farther out, of a band of the level, and of
    the offset away from zero.  The direction -1, 0, 1 is away from zero, that of the offset where it is zero.
    """
    plane = np.clip(gone, 0, TURNS - 1).astype(np.int16) // np.int16(PARTS)
    bands = cell.shape[-3]
    kind = np.abs(np.clip(cell, -2, 2)) + 3 * plane
    away = np.sign(cell + (cell == 0) * offset)
    off = np.clip(away * offset, -OFFSET_TOP, OFFSET_TOP - 1)
    part = (off + OFFSET_START) >> OFFSET_SHIFT
    band = np.arange(bands, dtype=np.int16)[:, None, None]
    return OFFSETS * (bands * kind + band) + part, away


def first_told(
    cell: Integers,
    gone: Integers,
    offset: Integers,
    zero: npt.NDArray[np.uint8],
    lean: npt.NDArray[np.int8],
) -> tuple[Integers, Integers]:
    """Return how likely 0 is, and how trits lean, as planes, bands and offsets alone tell (..., C, h, w).

    Both are int16.  ``zero`` and ``lean`` (8, 3, C, 25) are the first tables of the level.
    """
    chosen, away = first_table(cell, gone, offset)
    chosen = chosen.astype(np.intp)
    return zero.take(chosen).astype(np.int16), away * lean.take(chosen).astype(np.int16)


def table(zero: Integers, lean: Integers, order: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Return the tables, of ``order`` (51, 17), that these name, which are brought into range."""
    named = LEANS * np.clip(zero, 0, ZEROS - 1) + np.clip(lean + LEANS // 2, 0, LEANS - 1)
    found: npt.NDArray[np.uint16] = order.ravel().take(named.astype(np.intp))
    return found


def settled(
    cell: Integers,
    known: Integers,
    told: Integers,
    gone: Integers,
    level: int,
    waiting: npt.NDArray[np.int8],
    rest: npt.NDArray[np.int8],
) -> npt.NDArray[np.int32]:
    """Return the samples int32 (..., C, h, w), in 1/16 grey level, that latents most likely have.

    ``waiting`` (3, 867), of a kind of cell and a table, and ``rest`` (4,), of the distance of a cell from
    zero, say how far from the middle of its cell a latent is on average, in 1/64 of the next width or of its
    own.
    """
    near = np.clip(cell, -3, 3)
    off = np.sign(near) * rest.take(np.abs(near))
    here = open_in(known, gone, level).view(np.uint8)
    if here.any():
        likely = waiting.ravel().take(TABLES * np.clip(np.abs(near), 0, 2) + told.view(np.int16))
        off += here * (likely - off)
    cells = cell.astype(np.int32) * (1 + 2 * here)
    samples: npt.NDArray[np.int32] = WIDTHS.take(known + here) * (STEP_UNITS * cells + off)
    return samples


def finest(samples: Integers, level: int) -> npt.NDArray[np.int16]:
    """Return the finest cells int16 of samples of a level, in 1/16 grey level; far ones stay at the edge."""
    top = 3 ** (PLANES - FIRST[level]) // 2
    cells: npt.NDArray[np.int16] = np.clip(np.floor(samples / STEP_UNITS + 0.5), -top, top).astype(np.int16)
    return cells


def above(finest: Integers, known: Integers) -> npt.NDArray[np.int16]:
    """Return the cells int16, of which so many planes are known, that hold finest ones."""
    width = WIDTHS[known]
    held: npt.NDArray[np.int16] = (finest + width // np.int16(2)) // width
    return held
