"""The enhancement layer: one embedded stream of latents <-> a refinement of the picture, given a prediction.

Latents are refined trit by trit in the order of their trees' ranks, so that every prefix of the stream is a
picture; where regions count, what recognition needs less has its turn later.  Between turns the scales of all
latents are reviewed.  Frozen: bitstream_spec.md, "Enhancement layer".
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .entropy import CODE_TOP, LEAF
from .exact import Conv2d, conv2d
from .rans import EmbeddedDecoder, Group, encode_embedded_reverse
from .texture import DEPTH_TOP, Prior, TextureModel, hyper_shape, prior, reviewed, synthesise

ID_BYTES = 3
HEAD_BYTES = ID_BYTES + 1
"""The id of the model and the order, in front of the stream."""
SLICE = 1 << 20
"""Latents at work at once; bounds memory, and changes nothing else."""
Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[Any]


class Order(IntEnum):
    """In which order an enhancement refines the blocks of a picture.

    By REGIONS, for recognition, the detail of a preview counts more than its error: what is undecided moves
    it by half of what is expected.
    """

    ALIKE = 0
    REGIONS = 1


def settled(
    known: Prior,
    node: Integers,
    model: TextureModel,
    order: Order = Order.ALIKE,
) -> npt.NDArray[np.int16]:
    """Return latents (C, h, w), in 1/8 step, from the node (C, h, w) that each of them reached.

    The scales of ``known`` are those that the last review told.
    """
    latent = np.empty(node.shape, np.int16)
    for part in _channels(node.shape):
        top, mean = model.top[part, None, None], known.mean[part]
        reached = known.scale[part], node[part]
        if order == Order.REGIONS:
            mean = mean >> model.trees.undecided[reached]
        latent[part] = np.clip(mean + model.trees.value[reached].astype(np.int32), -top, top)
    return latent


def depths(scale: Integers, node: Integers, delay: Integers, model: TextureModel) -> npt.NDArray[np.uint8]:
    """Return how far from the finest each block (h, w) was left: 0..80 twelfths of an octave of its error.

    By the first turn in which a latent (C, h, w) at its node would be refined; ``delay`` as for ``encode``.
    """
    late = np.broadcast_to(delay.astype(np.int32), scale.shape[1:])
    turns = (model.trees.due(scale[part], node[part], late) for part in _channels(scale.shape))
    first = min(int(turn.min()) for turn in turns)
    return np.clip(model.finest - first + late, 0, DEPTH_TOP).astype(np.uint8)


def _channels(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield parts of the channels of latents of this shape (C, h, w)."""
    count = max(1, SLICE // (shape[1] * shape[2]))
    return (slice(first, first + count) for first in range(0, shape[0], count))


def encode(
    hyper: Integers,
    node: npt.NDArray[np.uint16],
    scale: npt.NDArray[np.uint8],
    delay: npt.NDArray[np.uint8],
    model: TextureModel,
) -> bytes:
    """Return the words of the hyper-latent (Z, h, w), -15..15, and of the refinements of latents.

    ``node`` (C, 4h, 4w), contiguous, is where each of them ends, as a walk may leave them: all go back to
    the root.  ``scale`` is that of the prior, and ``delay`` (4h, 4w) the turns that each block is put off.
    """
    trees, place = model.trees, (scale.ravel(), delay.ravel(), node.reshape(-1))

    def groups() -> Iterator[Group]:
        for turns in reversed(_phases(model)):
            told = scale
            if turns.start:
                before = node.copy()
                trees.climb(scale.ravel(), delay.ravel(), before.reshape(-1), turns.start - 1)
                told = reviewed(scale, before, delay, turns.start, model)
                del before  # two bytes a latent
            for trits, states in trees.retrace(*place, told=told.ravel(), turns=turns):
                yield trits, trees.coders.pick(states)
        for plane, table in zip(hyper[::-1], model.hyper[::-1], strict=True):
            yield plane.ravel() + CODE_TOP, table

    return encode_embedded_reverse(groups())


def decode(
    words: bytes,
    prediction: Pixels,
    delay: npt.NDArray[np.uint8],
    model: TextureModel,
    convolve: Conv2d = conv2d,
    known: Prior | None = None,
    order: Order = Order.ALIKE,
) -> Pixels:
    """Return the picture (H, W, 3) that the words of a stream, or the first of them, make of its prediction.

    ``delay`` is as for ``encode``, of this ``order``, and ``known`` the prior of the latents where it is at
    hand.  A stream that ends inside the hyper-latent leaves the prediction as it is.  Raises CorruptError if
    there are words after its last symbol.
    """
    decoder = EmbeddedDecoder(words)
    height, width = prediction.shape[:2]
    channels, rows, columns = hyper_shape(height, width, model)
    hyper = np.empty((channels, rows * columns), np.int8)
    for plane, table in zip(hyper, model.hyper, strict=True):
        symbols = decoder.take(plane.size, table)
        if symbols.size < plane.size:
            return prediction
        plane[:] = symbols - CODE_TOP
    if known is None:
        known = prior(hyper.reshape(channels, rows, columns), prediction, model, convolve)
    node, scale = _walked(decoder, known.scale, delay, model, convolve)
    decoder.finish()
    depth = depths(known.scale, node, delay, model)
    latent = settled(Prior(known.mean, scale), node, model, order)
    del decoder, known, node, scale  # several bytes a pixel
    picture: Pixels = prediction.copy()
    synthesise(latent, depth, picture, model, convolve)
    return picture


def _phases(model: TextureModel) -> list[range]:
    """Return the turns before the first review, and from each up to the next."""
    bounds = [0, *model.reviews, LEAF]
    return [range(first, end) for first, end in pairwise(bounds)]


def _walked(
    decoder: EmbeddedDecoder,
    scale: npt.NDArray[np.uint8],
    delay: npt.NDArray[np.uint8],
    model: TextureModel,
    convolve: Conv2d,
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """Return the node that the rest of a stream leads each latent to, and its scale as last reviewed.

    Both have the shape of ``scale``.  There is no review after the last certain symbol.
    """
    trees, node, told = model.trees, np.zeros(scale.shape, np.uint16), scale
    for turns in _phases(model):
        if decoder.exhausted:
            break
        if turns.start:
            told = reviewed(scale, node, delay, turns.start, model, convolve)
        trees.walk(
            scale.ravel(),
            delay.ravel(),
            lambda states: decoder.take(states.size, trees.coders.pick(states)),
            node=node.reshape(-1),
            told=told.ravel(),
            turns=turns,
        )
    return node, told
