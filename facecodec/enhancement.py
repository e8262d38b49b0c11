"""The enhancement layer: one embedded stream of latents <-> a refinement of the picture, given a prediction.

Latents are refined trit by trit, turn by turn, so that every prefix of the stream is a picture; where
regions count, what recognition needs less has its turn later.  Before a turn a network looks at all that is
known, and tells the table of each trit; before a plane the filter says where latents are to be expected.
Frozen: bitstream_spec.md, "Enhancement layer".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntFlag
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import latents
from .entropy import ordered
from .exact import Conv2d, conv2d
from .latents import Latents
from .rans import WORD_BYTES, EmbeddedDecoder, encode_reverse
from .synthesis import End, expect, synthesise
from .texture import Expectation, TextureModel, surroundings, told

ID_BYTES = 2
HEAD_BYTES = ID_BYTES + 1
"""The id of the model and flags, in front of the stream."""
OPEN_BYTES = 2
"""An open stream lacks so many bytes, and perhaps whole words."""
BEGUN = 8
"""A turn has begun when one in so many of its trits has come; its tables tell less until then."""
Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[Any]
Trits: TypeAlias = tuple[Integers, Integers]
"""Trits 0..2 in coding order, and their tables."""


class Flags(IntFlag):
    """How an enhancement is to be read.

    ``REGIONS``: its blocks are refined by regions, not all alike.  ``OPEN``: its stream was longer once.
    """

    REGIONS = 1
    OPEN = 2


def walk(
    trits: Callable[[Latents, Integers, Integers], Integers],
    prediction: Pixels,
    delay: npt.NDArray[np.uint8],
    model: TextureModel,
    convolve: Conv2d = conv2d,
) -> Iterator[End]:
    """Refine the latents of a picture, and yield the end of every turn; the next one changes its arrays.

    A turn that has not begun ends as the one before, with some more trits.

    ``trits(known, positions, tables)`` gives the trits 0..2 of the next latents, in coding order; fewer than
    asked for end the walk.  ``delay`` (h, w) is how many turns each block is put off.
    """
    around = surroundings(prediction, model, convolve)
    known = Latents.unknown(*delay.shape)
    due = np.empty(known.known.size, np.bool_)
    expectation = Expectation.none(known, model)
    end = End(known, np.zeros(known.known.size, np.uint16), latents.gone(-1, delay)[None], 1)
    for turn in range(latents.TURNS + int(delay.max())):
        gone = latents.gone(turn, delay)[None]
        if turn >= model.expects and turn % latents.PARTS == 0:
            expect(end, prediction, expectation, model, convolve)
        tables = told(known, expectation, gone, turn, around, model, convolve)
        for level, (now, seen, named) in enumerate(
            zip(*(known.levels(flat) for flat in (due, known.known, tables)), strict=True)
        ):
            now[:] = latents.due(seen, latents.magnified(gone, level), named, level, model.thresholds)
        asked, came = int(due.sum()), 0
        for positions, named in ordered(due, tables):
            given = trits(known, positions, named)
            came += given.size
            reached = positions[: given.size]
            known.cell[reached] = 3 * known.cell[reached] + given.astype(np.int16) - np.int16(1)
            known.known[reached] += np.uint8(1)
            if given.size < named.size:
                break
        if BEGUN * came >= asked:
            end = End(known, tables, gone, (4 * came - asked) // (2 * asked) if asked else 1)
        yield end
        if came < asked:
            return


@dataclass(frozen=True, eq=False)
class Refinements:
    """The trits of latents in coding order, and what they take.

    ``turns``: how many there are by the end of each turn.
    """

    coded: list[Trits]
    turns: list[int]
    model: TextureModel

    def first(self, count: int) -> bytes:
        """Return the stream of so many trits."""
        groups, left = [], count
        for given, named in self.coded:
            groups.append((given[:left], self.model.coders.pick(named[:left])))
            left -= min(left, given.size)
        return encode_reverse(reversed(groups))

    def after(self, turns: float) -> bytes:
        """Return the stream of so many turns, the share of the last one included."""
        ends = [0, *self.turns]
        return self.first(round(np.interp(turns, range(len(ends)), ends)))

    def within(self, max_bytes: int) -> bytes:
        """Return the longest stream of at most so many bytes."""
        bits = 8.0 * max_bytes
        while len(stream := self.first(self._count(bits))) > max_bytes:
            bits -= 1
        return stream

    def _count(self, bits: float) -> int:
        """Return how many trits these bits are enough for."""
        count = 0
        for given, named in self.coded:
            sizes = np.cumsum(self.model.bits[named, given], dtype=np.float64)
            now = int(np.searchsorted(sizes, bits, "right"))
            count += now
            if now < given.size:
                break
            bits -= sizes[-1] if now else 0
        return count


def refine(
    cells: npt.NDArray[np.int16],
    delay: npt.NDArray[np.uint8],
    prediction: Pixels,
    model: TextureModel,
    convolve: Conv2d = conv2d,
    *,
    turns: float = math.inf,
    max_bytes: float = math.inf,
) -> Refinements:
    """Return the refinements of latents in these finest cells (n,), all of them, or those of so many turns.

    Once they take more than ``max_bytes``, none follow those of that turn.
    """
    refinements = Refinements([], [], model)
    bits = 0.0

    def trits(known: Latents, positions: Integers, named: Integers) -> Integers:
        nonlocal bits
        third = latents.above(cells[positions], known.known[positions] + 1)
        given: Integers = (third - 3 * known.cell[positions] + 1).astype(np.uint8)
        refinements.coded.append((given, named))
        bits += float(model.bits[named, given].sum())
        return given

    for turn, _ in enumerate(walk(trits, prediction, delay, model, convolve)):
        refinements.turns.append(sum(given.size for given, _ in refinements.coded))
        if turn + 1 >= turns or bits > 8 * (max_bytes + WORD_BYTES):
            break
    return refinements


def cut(payload: bytes, missing: int) -> bytes:
    """Return an enhancement's payload, of which so many bytes at its end are not there, as one in itself."""
    flags = Flags(payload[ID_BYTES])
    superfluous = (OPEN_BYTES * (Flags.OPEN not in flags) - missing) % WORD_BYTES
    kept = payload[HEAD_BYTES : max(HEAD_BYTES, len(payload) - superfluous)]
    return payload[:ID_BYTES] + bytes([flags | Flags.OPEN]) + kept


def decode(
    stream: bytes,
    prediction: Pixels,
    delay: npt.NDArray[np.uint8],
    model: TextureModel,
    convolve: Conv2d = conv2d,
    *,
    missing: int = 0,
) -> Pixels:
    """Return the picture (H, W, 3) that a stream, or the first bytes of one, makes of its prediction.

    ``delay`` is as for ``refine``; ``missing`` bytes of the stream are not there.  A stream without a certain
    symbol leaves the prediction as it is.  Raises CorruptError if it goes on after its last symbol.
    """
    decoder = EmbeddedDecoder(stream, missing)
    if decoder.exhausted:
        return prediction

    def trits(_: Latents, positions: Integers, named: Integers) -> Integers:
        return decoder.take(named.size, model.coders.pick(named))

    for end in walk(trits, prediction, delay, model, convolve):
        last = end
        if decoder.exhausted:
            break
    decoder.finish()
    picture: Pixels = prediction.copy()
    synthesise(last, picture, model, convolve)
    return picture
