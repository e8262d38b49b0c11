"""Small models of random integers: they make the conformance vectors independent of any training."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

ACTIVE = (150, 150)
"""Mean and spread that random layers aim at, so that both ends of 0 .. 511 are clipped now and then."""
WEIGHT = 40
INNER, NODES = 1093, 3280


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
    a, b, c, d, e, f, g, h, i, j, k, m, z = 5, 6, 4, 7, 5, 6, 8, 7, 4, 6, 4, 3, 2
    planes = np.array([1, 2, 4, 7], np.uint8)
    shapes = {
        "context.to_8": (a, 48, 3, 130, ACTIVE),
        "context.to_16": (b, a, 3, 200, ACTIVE),
        "prior.from_64": (c, z, 1, 2, ACTIVE),
        "prior.from_32": (d, c, 3, 200, ACTIVE),
        "prior.from_16": (e, d, 3, 200, ACTIVE),
        "prior.mix": (f, e + b, 3, 200, ACTIVE),
        "prior.refine.first": (f, f, 3, 200, ACTIVE),
        "prior.refine.second": (f, f, 3, 200, (0, 200)),
        "prior.mean": (m, f, 1, 200, (0, 300)),
        "prior.scale": (m, f, 1, 200, (1.5, 1.2)),
        "review.enter": (4, 2 * m + 1, 1, 150, ACTIVE),
        "review.at_16.0.first": (4, 4, 3, 200, ACTIVE),
        "review.at_16.0.second": (4, 4, 3, 200, (0, 200)),
        "review.at_16.1.first": (4, 4, 3, 200, ACTIVE),
        "review.at_16.1.second": (4, 4, 3, 200, (0, 200)),
        "review.change": (m, 4, 1, 200, (0, 1.2)),
        "synthesis.linear": (3 * 16 * 16, m, 1, 400, (0, 40)),
        "synthesis.enter": (g, m, 1, 400, ACTIVE),
        "synthesis.at_16.0": (h, g + b + 1, 3, 200, ACTIVE),
        "synthesis.at_16.1.first": (h, h, 3, 200, ACTIVE),
        "synthesis.at_16.1.second": (h, h, 3, 200, (0, 200)),
        "synthesis.at_16.2.first": (h, h, 3, 200, ACTIVE),
        "synthesis.at_16.2.second": (h, h, 3, 200, (0, 200)),
        "synthesis.up_8": (4 * i, h, 1, 200, ACTIVE),
        "synthesis.at_8.0": (j, i + a, 3, 200, ACTIVE),
        "synthesis.at_8.1.first": (j, j, 3, 200, ACTIVE),
        "synthesis.at_8.1.second": (j, j, 3, 200, (0, 200)),
        "synthesis.up_4": (4 * 3, j, 1, 200, ACTIVE),
        "synthesis.at_4.0": (k, 3 + 97, 3, 200, ACTIVE),
        "synthesis.at_4.1.first": (k, k, 5, 200, ACTIVE),
        "synthesis.at_4.1.second": (k, k, 3, 200, (0, 200)),
        "synthesis.finish": (48, k, 3, 200, (0, 40)),
    }
    tensors = {}
    for name, (outputs, inputs, kernel, size, aim) in shapes.items():
        tensors |= layer(rng, name, outputs, inputs, kernel, size, aim)
    tensors["latent.top"] = np.array([8191, 3000, 500], np.uint16)
    tensors["hyper.frequencies"] = np.array([row(31, 15, spread, 14) for spread in (0.4, 2.0)])
    tensors |= trees(rng, planes)
    tensors["tree.rank"][0, 0] = 254 - 60
    tensors["regions"] = rng.integers(0, 61, (18, 18)).astype(np.uint8)
    tensors["regions"][0, 0] = 60
    tensors["finest"] = np.array([60], np.uint8)
    tensors["tree.surprise"] = rng.integers(0, 193, (len(planes), 3280)).astype(np.uint8)
    tensors["review.turns"] = np.array([12, 60, 200], np.uint8)
    return tensors


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


def trees(rng, planes):
    """Return trees of these depths; ranks and values reach both ends of their ranges."""
    frequencies = np.zeros((len(planes), INNER, 3), np.uint16)
    value = np.zeros((len(planes), NODES), np.int16)
    rank = np.full((len(planes), INNER), 255, np.uint8)
    for tree, depth in enumerate(planes.tolist()):
        for plane in range(depth + 1):
            first, count, step = (3**plane - 1) // 2, 3**plane, 3 ** (depth - plane)
            centres = 8 * step * (np.arange(count) - (count - 1) // 2)
            value[tree, first : first + count] = centres + rng.integers(-3, 4, count)
            for node in range(first, first + count if plane < depth else first):
                frequencies[tree, node] = row(3, rng.integers(3), rng.uniform(0.1, 3), rng.integers(12, 17))
                above = int(rank[tree, (node - 1) // 3]) if node else -1
                rank[tree, node] = above + rng.integers(1, 12)
    value[-1, [first, first + count - 1]] = -32_767, 32_767
    rank[0, 0] = 254
    rank[1, 0] = 0
    return {"tree.planes": planes, "tree.frequencies": frequencies, "tree.value": value, "tree.rank": rank}
