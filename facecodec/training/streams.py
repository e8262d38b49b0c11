"""Latents of crops as decoders know them when their streams are cut, by the frozen rules, crops at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from facecodec import latents, wavelet
from facecodec.latents import LEANS, PARTS, PLANES, TABLES, TURNS, ZEROS, above
from facecodec.networks.texture import HINTS, Texture, bits
from facecodec.wavelet import BANDS, LEVELS, STRIDE, UNITS

LAST = ((15, 0), (23, 0))
"""The last tables, by how likely 0 is and how trits lean, of all turns of a plane but the last."""
EXPECTS = 9
"""The first turn before which the filter is asked; all before take a few bytes."""
UNDECIDED, DECIDED = np.log2(1.45), np.log2(1.15)
Levels = list[np.ndarray]


def magnitude() -> np.ndarray:
    """Return how large latents of cells 0..63 are, on a scale of logarithms, uint8 (2, 64)."""
    sizes = np.log2(1 + np.arange(latents.MAGNITUDES))
    both = np.array([sizes, sizes])
    both[:, 0] = DECIDED, UNDECIDED
    return np.round(24 * both).clip(0, 255).astype(np.uint8)


MAGNITUDE = magnitude()


def trit_chances() -> np.ndarray:
    """Return what tables, by how likely 0 is and how trits lean, say of trits -1, 0, 1: (51, 17, 3)."""
    zero = torch.arange(ZEROS).float()[:, None, None]
    lean = torch.arange(LEANS).float()[:, None] - LEANS // 2
    chances: np.ndarray = torch.exp2(-bits(zero, lean, torch.tensor([-1, 0, 1]))).double().numpy()
    chances /= chances.sum(-1, keepdims=True)
    return chances


def table_order() -> tuple[np.ndarray, np.ndarray]:
    """Return which table is which, uint16 (51, 17), and how many have their turn, in those of a plane (3,).

    First come those of which a bit takes the most off the error: the variance of a trit against its entropy.
    """
    inward, zero, outward = np.moveaxis(trit_chances(), -1, 0)
    chances = np.stack([inward, zero, outward])
    error = inward + outward - (outward - inward) ** 2
    worth = error / -(chances * np.log2(chances)).sum(0)
    order = np.empty((ZEROS, LEANS), np.uint16)
    order.ravel()[np.argsort(-worth, axis=None, kind="stable")] = np.arange(TABLES)
    return order, np.array([*(order[zero, LEANS // 2 + lean] + 1 for zero, lean in LAST), TABLES], np.uint16)


ORDER, THRESHOLDS = table_order()


def finest(pictures: Tensor, predictions: Tensor) -> Levels:
    """Return the finest cells of pictures (N, 3, H, W), int16 (N, C, h, w) a level, coarsest first."""
    bands = wavelet.analysed((UNITS * (pictures - predictions)).int().numpy())
    return [latents.finest(band, level) for level, band in enumerate(bands)]


@dataclass
class Cut:
    """What is known of latents of crops: cells int16 and planes uint8 (N, C, h, w), coarsest level first.

    ``gone`` int8 (N, 1, h, w): the turns that blocks have seen; ``finest``: where latents are; ``expected``
    int32: where the filter expects them, samples in 1/16 grey level; ``hints``: what else it tells of them.
    """

    finest: Levels
    cells: Levels
    known: Levels
    gone: np.ndarray
    expected: Levels
    hints: list[Tensor]

    @classmethod
    def at_plane(cls, finest: Levels, gone: np.ndarray) -> Cut:
        """Return what is known when the planes of these turns begin."""
        planes = np.clip(gone, 0, TURNS) // PARTS
        known = [
            np.broadcast_to(
                np.maximum(latents.magnified(planes, level), latents.FIRST[level]), cells.shape
            ).astype(np.uint8)
            for level, cells in enumerate(finest)
        ]
        cells = [above(c, n) for c, n in zip(finest, known, strict=True)]
        hints = [torch.zeros(len(c), HINTS[STRIDE >> level], *c.shape[2:]) for level, c in enumerate(cells)]
        return cls(finest, cells, known, gone, [np.zeros(c.shape, np.int32) for c in cells], hints)

    def expect(self, model: Texture, predictions: Tensor, rest: np.ndarray) -> tuple[Tensor, Tensor]:
        """Ask the filter where latents are, as decoders do when the planes of these turns begin.

        Of crops that have not come so far nothing is expected.  Returns the pictures (N, 3, H, W) before and
        after the filter, in grey levels.
        """
        last = PARTS * (np.clip(self.gone, 0, TURNS) // PARTS) - 1
        nowhere = [np.zeros(cell.shape, np.uint16) for cell in self.cells]
        samples = replace(self, gone=last).samples(nowhere, np.zeros((3, TABLES), np.int8), rest)
        rough = predictions + torch.from_numpy(wavelet.synthesised(samples)).float() / UNITS
        told = torch.from_numpy(latents.depth(last, 1)).float()
        with torch.autocast("cpu", torch.bfloat16):
            lacking, features = model.filter(rough.round().clamp(0, 255), predictions, told)
            hints = model.hint([feature.detach() for feature in features])
        bands = wavelet.analysed((UNITS * lacking.detach()).round().int().numpy())
        late = self.gone.max((1, 2, 3), keepdims=True) >= EXPECTS
        self.expected = [
            ((sample + band) * late).astype(np.int32) for sample, band in zip(samples, bands, strict=True)
        ]
        self.hints = [hint * torch.from_numpy(late) for hint in hints]
        return rough, rough + lacking

    def grids(self, back: int = 0) -> Levels:
        """Return the turns gone, so many turns ago, on the grid of each level."""
        return [
            latents.magnified(np.maximum(self.gone - np.int8(back), -1), level) for level in range(LEVELS)
        ]

    def trits(self) -> Levels:
        """Return the next trit -1, 0, 1 of each latent; where there is none, anything."""
        return [
            above(c, np.minimum(n + 1, PLANES)) - 3 * cell
            for c, n, cell in zip(self.finest, self.known, self.cells, strict=True)
        ]

    def told(
        self, model: Texture, around: tuple[Tensor, Tensor], back: int = 0
    ) -> list[tuple[Tensor, Tensor]]:
        """Return how likely 0 is and how trits lean, (N, C, h, w), as networks say so many turns ago."""
        states = zip(self.cells, self.known, self.grids(back), self.offsets(), strict=True)
        views = [
            torch.from_numpy(latents.seen(*state, level, MAGNITUDE)).float()
            for level, state in enumerate(states)
        ]
        changes = model.trits(views, self.hints, *around)
        return [
            (zero + change[:, : zero.shape[1]], lean + change[:, zero.shape[1] :])
            for (zero, lean), change in zip(self.first_told(model, back), changes, strict=True)
        ]

    def offsets(self) -> Levels:
        """Return where in their cells latents are expected."""
        return [latents.offset(*state) for state in zip(self.cells, self.known, self.expected, strict=True)]

    def off(self, missing: Tensor) -> Levels:
        """Return how far latents are from the middles of their cells, in widths of these.

        ``missing`` (N, 3, H, W) is what predictions lack, in grey levels.
        """
        bands = wavelet.analysed((UNITS * missing).int().numpy())
        return [
            band / (latents.STEP_UNITS * latents.WIDTHS[known].astype(np.float64)) - cell
            for band, known, cell in zip(bands, self.known, self.cells, strict=True)
        ]

    def first_told(self, model: Texture, back: int = 0) -> list[tuple[Tensor, Tensor]]:
        """Return how likely 0 is and how trits lean, as planes, bands and offsets alone tell."""
        bounds = np.cumsum(BANDS)[:-1]
        firsts = (
            np.split(tables.numpy().astype(dtype), bounds, 2)
            for tables, dtype in ((model.first_zero, np.uint8), (model.first_lean, np.int8))
        )
        states = zip(self.cells, self.grids(back), self.offsets(), *firsts, strict=True)
        return [
            (torch.from_numpy(zero).float(), torch.from_numpy(lean).float())
            for zero, lean in (latents.first_told(*state) for state in states)
        ]

    def due(self, told: list[tuple[Tensor, Tensor]], back: int = 0) -> tuple[Levels, Levels]:
        """Return which latents are refined in the turn that these tables are for, and their tables."""
        tables = [
            latents.table(zero.round().short().numpy(), lean.round().short().numpy(), ORDER)
            for zero, lean in told
        ]
        due = [
            latents.due(known, grid, named, level, THRESHOLDS)
            for level, (known, grid, named) in enumerate(
                zip(self.known, self.grids(back), tables, strict=True)
            )
        ]
        return due, tables

    def refine(self, chosen: Levels) -> None:
        """Take a trit of these latents."""
        for cells, known, finest, now in zip(self.cells, self.known, self.finest, chosen, strict=True):
            known += now
            np.copyto(cells, above(finest, known), where=now)

    @torch.no_grad()
    def lead(self, tell: Callable[[int], list[tuple[Tensor, Tensor]]]) -> None:
        """Go from the beginning of planes to the turns gone; ``tell(back)`` gives the tables on the way."""
        parts = np.clip(self.gone, 0, TURNS) % PARTS
        for back in range(PARTS - 1, 0, -1):
            if (parts >= back).any():
                self.refine(self.due(tell(back), back)[0])

    def samples(self, tables: Levels, waiting: np.ndarray, rest: np.ndarray) -> Levels:
        """Return the most likely samples of all latents, int32 (N, C, h, w) a level, in 1/16 grey level."""
        return [
            latents.settled(cell, known, named, grid, level, waiting, rest)
            for level, (cell, known, grid, named) in enumerate(
                zip(self.cells, self.known, self.grids(), tables, strict=True)
            )
        ]


def share_of(due: Levels, tables: Levels, shares: np.ndarray) -> Levels:
    """Return the first ones, so large a share (N,) of each crop, of what is due, in coding order."""
    chosen = [np.zeros_like(level) for level in due]
    for crop, share in enumerate(shares):
        flat = np.concatenate([level[crop].ravel() for level in due])
        named = np.concatenate([level[crop].ravel() for level in tables])
        positions = np.flatnonzero(flat)
        order = positions[np.argsort(named[positions], kind="stable")]
        now = np.zeros_like(flat)
        now[order[: round(share * order.size)]] = True
        bounds = pairwise(np.cumsum([0, *(level[crop].size for level in due)]))
        for level, (first, end) in zip(chosen, bounds, strict=True):
            level[crop] = now[first:end].reshape(level[crop].shape)
    return chosen
