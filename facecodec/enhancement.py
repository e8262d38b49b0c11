"""The enhancement layer: one embedded stream of latents <-> a refinement of the picture, given a prediction.

Latents are refined trit by trit, turn by turn, so that every prefix of the stream is a picture; where
regions count, what recognition needs less has its turn later.  Before a turn a network looks at all that is
known, and tells the table of each trit; before a plane the filter says where latents are to be expected.
Frozen: bitstream_spec.md, "Enhancement layer".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import latents
from .entropy import ordered
from .exact import Conv2d, conv2d
from .latents import Latents
from .rans import WORD_BYTES, EmbeddedDecoder, encode_embedded_reverse
from .synthesis import End, expect, synthesise
from .texture import Expectation, TextureModel, surroundings, told

ID_BYTES = 3
HEAD_BYTES = ID_BYTES + 1
"""The id of the model and the order, in front of the stream."""
WORD_BITS = 8 * WORD_BYTES
BEGUN = 8
"""A turn has begun when one in so many of its trits has come; its tables tell less until then."""
MARGIN = 0.5
"""Bits by which sums of what trits take may be off."""
Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[Any]
Trits: TypeAlias = tuple[Integers, Integers]
"""Trits 0..2 in coding order, and their tables."""


class Order(IntEnum):
    """In which order an enhancement refines the blocks of a picture, and what its filter aims at.

    All blocks alike, for what is nearest to the original, or by regions, for what is most like its faces.
    """

    ALIKE = 0
    REGIONS = 1


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


def encode(
    cells: npt.NDArray[np.int16],
    delay: npt.NDArray[np.uint8],
    prediction: Pixels,
    model: TextureModel,
    convolve: Conv2d = conv2d,
    *,
    turns: float = math.inf,
    max_words: int | None = None,
) -> bytes:
    """Return the words of the refinements of latents in these finest cells (n,).

    They are cut after so many ``turns``, the share of the last one included, or after ``max_words``.
    """
    coded: list[Trits] = []
    bits, before = 0.0, 0.0

    def trits(known: Latents, positions: Integers, named: Integers) -> Integers:
        nonlocal bits
        third = latents.above(cells[positions], known.known[positions] + 1)
        given: Integers = (third - 3 * known.cell[positions] + 1).astype(np.uint8)
        coded.append((given, named))
        bits += float(model.bits[named, given].sum())
        return given

    for turn, _ in enumerate(walk(trits, prediction, delay, model, convolve)):
        enough = max_words is not None and bits > WORD_BITS * (max_words + 2)
        if turn + 1 >= turns or enough:
            break
        before = bits
    if turns < turn + 1:
        share = before + (bits - before) * (turns - turn)
        return _filled(coded, model)[: WORD_BYTES * math.ceil(share / WORD_BITS + 1)]
    return _filled(coded, model) if enough else _words(coded, model)


def _words(coded: Sequence[Trits], model: TextureModel) -> bytes:
    return encode_embedded_reverse((given, model.coders.pick(named)) for given, named in reversed(coded))


def _filled(coded: Sequence[Trits], model: TextureModel) -> bytes:
    """Return the words of all trits but some of the last ones, so that the first word is nearly full.

    It holds what is over when all others are full, half a word in the mean.  A stream that is cut anyway has
    no use for its last trits.
    """
    words = _words(coded, model)
    if not coded:
        return words
    *before, (given, named) = coded
    over = math.log2(int.from_bytes(words[:WORD_BYTES], "little"))
    sizes = np.cumsum(model.bits[named, given][::-1], dtype=np.float64)
    kept = named.size - 1 - int(np.searchsorted(sizes, over + MARGIN))
    if kept < 0:
        return words
    fuller = _words([*before, (given[:kept], named[:kept])], model)
    return max(words, fuller, key=lambda stream: int.from_bytes(stream[:WORD_BYTES], "little"))


def decode(
    words: bytes,
    prediction: Pixels,
    delay: npt.NDArray[np.uint8],
    model: TextureModel,
    convolve: Conv2d = conv2d,
    *,
    order: Order = Order.ALIKE,
) -> Pixels:
    """Return the picture (H, W, 3) that the words of a stream, or the first of them, make of its prediction.

    ``delay`` is as for ``encode``; by ``order``, the filter aims at the original or at its faces.  A stream
    without a certain symbol leaves the prediction as it is.  Raises CorruptError if there are words after its
    last symbol.
    """
    decoder = EmbeddedDecoder(words)
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
    synthesise(last, picture, int(order), model, convolve)
    return picture
