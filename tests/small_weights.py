"""Small models of random integers: they make the conformance vectors independent of any training."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

ACTIVE = (150, 150)
"""Mean and spread that random layers aim at, so that both ends of 0 .. 511 are clipped now and then."""
BYTE = (80, 90)
"""The same for layers whose outputs are 0 .. 255."""
TELL = (0, 12)
"""The same for changes of tables: most of them are small."""
WEIGHT = 40
TABLES = 867


def base(rng):
    """Return the tensors of a small base model."""
    tensors = {
        "identity.frequencies": rows(31, np.geomspace(4, 0.4, 32)),
        "appearance.frequencies": rows(127, np.geomspace(9, 0.12, 32)),
        "verdicts": np.array([[200_000, 10_000], [300_000, 1_000], [400_000, 100]], np.int32),
    }
    kept = rng.random((3 * 32 * 32, 256, 1, 1)) < 1 / np.arange(1, 257)[:, None, None]
    tensors |= layer(rng, "linear", 3 * 32 * 32, 256, 1, 8, (128, 60), kept)
    tensors |= layer(rng, "start", 16 * 2, 512, 1, 2, ACTIVE)
    widths = [2, 5, 4, 6, 3, 4]
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        tensors |= layer(rng, f"layers.{index}", outputs, inputs, 3, 200, ACTIVE)
    return tensors | layer(rng, "finish", 12, 4, 3, 200, (0, 60))


def texture(rng):
    """Return the tensors of a small texture model."""
    a, b = 3, 4
    shapes = {
        "around.to_8": (a, 48, 3, 130, BYTE),
        "around.to_16": (b, a, 3, 100, BYTE),
        "trits.enter.2": (4, 28 + 2, 3, 60, BYTE),
        "trits.down.2": (3, 4, 3, 100, BYTE),
        "trits.enter.4": (5, 28 + 4 + 3, 3, 60, BYTE),
        "trits.down.4": (4, 5, 3, 100, BYTE),
        "trits.enter.8": (6, 28 + 3 + 4 + a, 3, 60, BYTE),
        "trits.down.8": (5, 6, 3, 100, BYTE),
        "trits.enter.16": (7, 37 + 5 + 5 + b, 3, 60, BYTE),
        **residual("trits.at_16.0", 7),
        **residual("trits.at_16.1", 7),
        "trits.tell.16": (24, 7, 1, 100, TELL),
        "trits.up.8": (4, 7, 1, 100, BYTE),
        "trits.merge.8": (5, 6 + 4, 3, 100, BYTE),
        **residual("trits.at_8", 5),
        "trits.tell.8": (18, 5, 1, 100, TELL),
        "trits.up.4": (3, 5, 1, 100, BYTE),
        "trits.merge.4": (4, 5 + 3, 3, 100, BYTE),
        "trits.tell.4": (18, 4, 1, 100, TELL),
        "trits.up.2": (2, 4, 1, 100, BYTE),
        "trits.merge.2": (3, 4 + 2, 5, 100, BYTE),
        "trits.tell.2": (18, 3, 1, 100, TELL),
        "filter.enter": (3, 26, 3, 130, BYTE),
        "filter.down.4": (4, 3, 3, 100, BYTE),
        "filter.down.8": (5, 4, 3, 100, BYTE),
        "filter.down.16": (6, 5, 3, 100, BYTE),
        **residual("filter.at.16.0", 6),
        **residual("filter.at.16.1", 6),
        "filter.up.8": (4, 6, 1, 100, BYTE),
        "filter.merge.8": (7, 5 + 4, 3, 100, BYTE),
        **residual("filter.at.8.0", 7),
        **residual("filter.at.8.1", 7),
        "filter.up.4": (3, 7, 1, 100, BYTE),
        "filter.merge.4": (5, 4 + 3, 3, 100, BYTE),
        **residual("filter.at.4.0", 5),
        **residual("filter.at.4.1", 5),
        "filter.up.2": (2, 5, 1, 100, BYTE),
        "filter.merge.2": (4, 3 + 2, 3, 100, BYTE),
        **residual("filter.at.2.0", 4),
        **residual("filter.at.2.1", 4),
        "hint.2": (2, 4, 1, 100, BYTE),
        "hint.4": (4, 5, 1, 100, BYTE),
        "hint.8": (3, 7, 1, 100, BYTE),
        "hint.16": (5, 6, 1, 100, BYTE),
        "filter.finish": (12, 4, 5, 100, (0, 150)),
    }
    tensors = {}
    for name, (outputs, inputs, kernel, size, aim) in shapes.items():
        tensors |= layer(rng, name, outputs, inputs, kernel, size, aim)
    spread = rng.uniform(0.15, 3, TABLES)
    centre, precision = rng.integers(3, size=TABLES), rng.integers(12, 17, TABLES)
    rows = [row(3, *named) for named in zip(centre, spread, precision, strict=True)]
    tensors["trit.frequencies"] = np.array(rows, np.uint16)
    tensors["order"] = rng.permutation(TABLES).astype(np.uint16).reshape(51, 17)
    tensors["thresholds"] = np.array([255, 510, TABLES], np.uint16)
    tensors["first.zero"] = rng.integers(0, 51, (8, 3, 39, 25)).astype(np.uint8)
    tensors["first.lean"] = rng.integers(-8, 9, (8, 3, 39, 25)).astype(np.int8)
    tensors["magnitude"] = rng.integers(0, 256, (2, 64)).astype(np.uint8)
    tensors["settle.waiting"] = rng.integers(-96, 97, (3, TABLES)).astype(np.int8)
    tensors["settle.rest"] = np.array([-7, 32, -32, 10], np.int8)
    tensors["regions"] = rng.integers(0, 25, (18, 18)).astype(np.uint8)
    tensors["asked"] = np.array([2], np.uint8)
    tensors["expects"] = np.array([1], np.uint8)
    return tensors


def residual(name, width):
    """Return the shapes of both layers around a shortcut."""
    return {
        f"{name}.first": (width, width, 3, 100, BYTE),
        f"{name}.second": (width, width, 3, 100, (0, 100)),
    }


def rows(symbols, spreads):
    """Return Tables around the middle symbol, of all precisions in turn."""
    precisions = [12, 14, 16]
    middle = symbols // 2
    return np.array([row(symbols, middle, spread, precisions[i % 3]) for i, spread in enumerate(spreads)])


def row(symbols, centre, spread, precision):
    """Return frequencies around a symbol; on the flanks of a narrow row they are 0."""
    shares = np.exp(-np.abs(np.arange(symbols) - centre) / spread)
    frequencies = np.floor(shares / shares.sum() * 2**precision).astype(int)
    frequencies[centre] += 2**precision - frequencies.sum()
    return frequencies.astype(np.uint16)


def layer(rng, name, outputs, inputs, kernel, size, aim, kept=True):
    """Return a layer whose outputs have about this mean and spread where its inputs have this size.

    Weights that are not kept are 0, which makes large layers small files once they are compressed.
    """
    mean, spread = aim
    weight = rng.integers(-WEIGHT, WEIGHT + 1, (outputs, inputs, kernel, kernel)).astype(np.int8) * kept
    reach = size * np.sqrt((weight.astype(float) ** 2).sum((1, 2, 3)))
    shift = np.round(np.log2(np.maximum(reach, spread) / spread)).astype(np.uint8)
    bias = np.round((mean + rng.normal(0, spread / 4, outputs)) * 2.0**shift).astype(np.int32)
    return {f"{name}.weight": weight, f"{name}.bias": bias, f"{name}.shift": shift}
