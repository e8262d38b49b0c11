"""Train the texture networks: one model for all rates.

First the filter learns from what decoders make of streams that were cut anywhere.  Its loss is a hybrid
metric (LFIC, arXiv 1812.10067): the error, and what the codec's own recogniser makes of the faces that were
cut first.  Then the networks that tell the tables of trits learn from latents as decoders know them, and from
where the filter expects them, in planes drawn at random: their loss is the size of what is still to come of a
plane, at each of its turns, against that without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facecodec import latents, wavelet, weights
from facecodec.enhancement import BEGUN
from facecodec.errors import WeightsError
from facecodec.latents import LEANS, OFFSETS, PARTS, PLANES, TABLES, TURNS, ZEROS
from facecodec.networks.quantised import set_rounding, thaw
from facecodec.networks.texture import LEAN_STEP, UNITS, ZERO_LOW, ZERO_STEP, Texture, bits
from facecodec.training import streams
from facecodec.training.crops import BATCH, Draw
from facecodec.training.likeness import Likeness
from facecodec.training.run import Run
from facecodec.training.streams import EXPECTS, ORDER, Cut, finest, share_of
from facecodec.wavelet import BANDS

RATE = 1e-3
MATRIX_RATE = 0.005
FILTER_SHARE = 0.6
ASKED = 6
"""The first turn before which the networks tell tables."""
FILTERED_FROM = 9
"""The first turn that the filter learns from: before it pictures hardly differ from their predictions."""
WAITING = 1 / 8
"""The share of crops that are cut where the next turn has not begun."""
LATEST = 7
"""Blocks are put off by fewer turns."""
REGIONAL = 1 / 4
LEAST_BITS = 300.0
LIKENESS_WEIGHT = 0.5
LIKENESS_STEPS = 4
"""Faces are looked at once in so many steps."""
FIRST_BEFORE = 8.0
"""How many trits all offsets together count for in the table of each."""
REST_BATCHES = 10
FIRST_BATCHES = 40
TABLE_BATCHES = 40
BEFORE = 200.0
"""How many trits tables count for, as they are named, against those seen."""
LOG_STEPS = 100
PRECISION = 14


def train(*, data: Path, runs: Path, minutes: float) -> None:
    """Train on sets ``train-*`` and ``scenes`` of ``data``, with the previews of the newest base weights."""
    torch.manual_seed(0)
    cache, folder = runs / "cache", runs / "texture"
    model = Texture()
    set_rounding(model, True)
    if not warm(model):
        first_tables(model, data, cache)
    kernels = [p for p in model.parameters() if p.ndim == 4 and p is not model.filter.finish.weight]
    stages = (
        ((model.filter,), folder / "filter", FILTER_SHARE, learn_filter),
        ((model.around, model.hint, model.trits), folder, 1 - FILTER_SHARE, learn_trits),
    )
    for parts, where, share, stage in stages:
        model.requires_grad_(False)
        for part in parts:
            part.requires_grad_(True)
        run = Run(
            where,
            model,
            minutes=share * minutes,
            rate=RATE,
            matrix_rate=MATRIX_RATE,
            kernels=[kernel for kernel in kernels if kernel.requires_grad],
        )
        before = run.step
        stage(run, data, cache)
        if run.step > before and where != folder:
            (folder / "checkpoint.safetensors").unlink(missing_ok=True)
        model.load_state_dict(run.averaged.state_dict())


def learn_trits(run: Run[Texture], data: Path, cache: Path) -> None:
    """Train what tells the tables of trits; the first tables, as the filter makes them, are counted first."""
    model = run.model
    if run.step == 0:
        first_tables(model, data, cache)
        run.averaged.load_state_dict(model.state_dict())
    rest = resting(data, cache)
    draw, rng = Draw(data, cache, [run.step, run.worker]), np.random.default_rng([run.step, run.worker, 1])
    for step in run.steps():
        pictures, predictions, _ = draw.batch()
        cells = finest(pictures, predictions)
        turn = rng.integers(ASKED // PARTS, PLANES, (BATCH, 1, 1, 1)) * PARTS
        later = put_off(rng, cells[0].shape[2:]) * (rng.random() < REGIONAL)
        cut = Cut.at_plane(cells, latents.gone(turn, later))
        cut.expect(model, predictions, rest)
        size = before = torch.zeros(())
        loss = torch.zeros(())
        with torch.autocast("cpu", torch.bfloat16):
            around = model.around(predictions)
            if later.any():
                cut.lead(partial(cut.told, model, around))
            for part in range(PARTS):
                cut.gone = latents.gone(turn + part, later)
                told = cut.told(model, around)
                ours, first = (waiting_bits(cut, tables) for tables in (told, cut.first_told(model)))
                loss = loss + (ours / (first + LEAST_BITS)).mean()
                size, before = size + ours.detach().mean(), before + first.mean()
                cut.refine(cut.due([(zero.detach(), lean.detach()) for zero, lean in told])[0])
        run.descend(loss / PARTS, clip=1.0)
        run.note(bits=size.item(), ratio=(size / before).item())
        if step % LOG_STEPS == LOG_STEPS - 1:
            run.log()


def waiting_bits(cut: Cut, told: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the bits (N,) of the trits of all latents that wait for that of their plane."""
    total = torch.zeros(len(cut.gone))
    for level, ((zero, lean), trit, grid) in enumerate(zip(told, cut.trits(), cut.grids(), strict=True)):
        open_here = torch.from_numpy(latents.open_in(cut.known[level], grid, level))
        total = total + (bits(zero, lean, torch.from_numpy(trit)) * open_here).sum((1, 2, 3))
    return total


def put_off(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return by how many turns blocks are put off, (N, 1, h, w): 2x2 of them alike, as for recognition."""
    later = rng.integers(0, LATEST, (BATCH, 1, -(-shape[0] // 2), -(-shape[1] // 2)))
    whole: np.ndarray = later.repeat(2, 2).repeat(2, 3)[:, :, : shape[0], : shape[1]]
    return whole


def turns(rng: np.random.Generator, shape: tuple[int, ...], earliest: int = ASKED) -> np.ndarray:
    """Return turns gone int8 (N, 1, h, w); the blocks of every fourth crop are put off."""
    turn = rng.integers(earliest, TURNS, (BATCH, 1, 1, 1))
    return latents.gone(turn, put_off(rng, shape) * (rng.random((BATCH, 1, 1, 1)) < REGIONAL))


def learn_filter(run: Run[Texture], data: Path, cache: Path) -> None:
    """Train the filter on cut streams; the tables of latents are counted first."""
    model = run.model
    counted, likeness = tables(model, data, cache), Likeness()
    draw, rng = Draw(data, cache, [run.step, run.worker, 2]), np.random.default_rng([run.step, run.worker, 3])
    torch.manual_seed(run.step * 16 + run.worker)
    for step in run.steps():
        pictures, predictions, frames = draw.batch()
        cells = finest(pictures, predictions)
        cut = Cut.at_plane(cells, turns(rng, cells[0].shape[2:], FILTERED_FROM))
        before, after = cut.expect(model, predictions, counted["settle.rest"])
        expected, _ = lacking_share(before, after, pictures)
        named, told = drawn(cut, model, predictions, rng)
        rough = rough_picture(cut, named, predictions, counted)
        with torch.autocast("cpu", torch.bfloat16):
            lacking, _ = model.filter(rough.round().clamp(0, 255), predictions, told)
        loss, gain = lacking_share(rough, rough + lacking, pictures)
        unlike = torch.zeros(())
        if step % LIKENESS_STEPS == 0:
            unlike = likeness.lacking(rough + lacking, pictures, frames, -told[:, 0].mean((1, 2)).numpy())
        run.descend(expected + loss + LIKENESS_WEIGHT * unlike, clip=1.0)
        run.note(loss=loss.item(), expected=expected.item(), gain=gain, unlike=LIKENESS_STEPS * unlike.item())
        if step % LOG_STEPS == LOG_STEPS - 1:
            run.log()


def lacking_share(rough: Tensor, filtered: Tensor, pictures: Tensor) -> tuple[Tensor, float]:
    """Return the share of the error that the filter leaves of pictures, and its gain in dB, both means."""
    error, left = ((seen - pictures).square().mean((1, 2, 3)) for seen in (rough, filtered))
    gain = 10 * torch.log10((error + 0.1) / (left.detach() + 0.1)).mean()
    return (left / (error + 1)).mean(), gain.item()


@torch.no_grad()
def drawn(
    cut: Cut, model: Texture, predictions: Tensor, rng: np.random.Generator
) -> tuple[list[np.ndarray], Tensor]:
    """Go on to where streams are cut in these turns; return the tables told last, and what filters are told.

    Cuts are densest where a turn has just begun: what is seen there was seen at the end of that before, too.
    Some are where the turn after these has not begun, and is not told.
    Turns of a plane before the last are taken as the first tables tell them, which is as good here.
    """
    with torch.autocast("cpu", torch.bfloat16):
        cut.lead(partial(cut.first_told, model))
        due, named = cut.due(cut.told(model, model.around(predictions)))
    shares = (1 + (BEGUN - 1) * rng.random(len(predictions)) ** 2) / BEGUN
    waits = rng.random(len(predictions)) < WAITING
    cut.refine(share_of(due, named, np.where(waits, 1, shares)))
    cut.refine(share_of(*cut.due(cut.first_told(model, -1), -1), waits * rng.random(len(waits)) / BEGUN))
    parts = np.floor(2 * np.where(waits, 1, shares) - 0.5).astype(np.int16)[:, None, None, None]
    return named, torch.from_numpy(latents.depth(cut.gone, parts)).float()


def rough_picture(
    cut: Cut, named: list[np.ndarray], predictions: Tensor, counted: dict[str, np.ndarray]
) -> Tensor:
    """Return the pictures (N, 3, H, W) that the latents make, before the filter, in grey levels."""
    samples = cut.samples(named, counted["settle.waiting"], counted["settle.rest"])
    return predictions + torch.from_numpy(wavelet.synthesised(samples)).float() / wavelet.UNITS


def resting(data: Path, cache: Path) -> np.ndarray:
    """Count where in their cells latents are, int8 (4,), as ``latents.settled`` has it, when planes begin."""
    draw, rng = Draw(data, cache, [7]), np.random.default_rng(8)
    total = np.zeros((2, 4))
    for _ in range(REST_BATCHES):
        pictures, predictions, _ = draw.batch()
        cells = finest(pictures, predictions)
        plane = rng.integers(ASKED // PARTS, PLANES + 1, (BATCH, 1, 1, 1))
        cut = Cut.at_plane(cells, np.broadcast_to(PARTS * plane, (BATCH, 1, *cells[0].shape[2:])))
        for cell, off in zip(cut.cells, cut.off(pictures - predictions), strict=True):
            kind = np.minimum(np.abs(cell), 3).ravel()
            total += [np.bincount(kind, minlength=4), np.bincount(kind, (off * np.sign(cell)).ravel(), 4)]
    outward = latents.STEP_UNITS * total[1] / total[0].clip(1)
    rest: np.ndarray = np.round(outward).clip(-32, 32).astype(np.int8)
    return rest


@torch.no_grad()
def first_tables(model: Texture, data: Path, cache: Path) -> None:
    """Count what planes, bands and offsets alone tell of trits, in training crops, and give it to the model.

    What is seen of a band counts for its neighbours among the offsets, too, and all of its offsets a little.
    """
    rest, draw = resting(data, cache), Draw(data, cache, [5])
    counts = [np.zeros((PLANES, 3, bands, OFFSETS, 3)) for bands in BANDS]
    for _ in range(FIRST_BATCHES):
        pictures, predictions, _ = draw.batch()
        cells = finest(pictures, predictions)
        for plane in range(PLANES):
            cut = Cut.at_plane(cells, np.full((BATCH, 1, *cells[0].shape[2:]), PARTS * plane, np.int8))
            if PARTS * plane >= EXPECTS:
                cut.expect(model, predictions, rest)
            states = zip(cut.cells, cut.grids(), cut.offsets(), cut.trits(), strict=True)
            for level, (cell, grid, offset, trit) in enumerate(states):
                if plane >= latents.FIRST[level]:
                    table, away = latents.first_table(cell, grid, offset)
                    place = 3 * table + trit * np.where(away < 0, -1, 1) + 1
                    found = np.bincount(place.ravel(), minlength=counts[level].size)
                    counts[level] += found.reshape(counts[level].shape)
    seen = np.concatenate(counts, 2)
    edges = np.pad(seen, ((0, 0), (0, 0), (0, 0), (1, 1), (0, 0)))
    seen += (edges[:, :, :, :-2] + edges[:, :, :, 2:]) / 8
    everywhere = seen.sum(3, keepdims=True) + 0.5
    seen += FIRST_BEFORE * everywhere / everywhere.sum(-1, keepdims=True)
    inward, none, outward = np.moveaxis(seen, -1, 0)
    zero = (np.log(none / (outward + inward)) - ZERO_LOW) / ZERO_STEP
    lean = np.log(outward / inward) / LEAN_STEP
    model.first_zero.copy_(torch.from_numpy(zero.round().clip(0, ZEROS - 1)))
    model.first_lean.copy_(torch.from_numpy(lean.round().clip(-(LEANS // 2), LEANS // 2)))


@torch.no_grad()
def tables(model: Texture, data: Path, cache: Path) -> dict[str, np.ndarray]:
    """Return the tensors of the format that hold no layer, counted in crops that are always the same."""
    resting_before, draw, rng = resting(data, cache), Draw(data, cache, [11]), np.random.default_rng(12)
    expected = streams.trit_chances().reshape(TABLES, 3)[ORDER.argsort(axis=None)]
    trits = BEFORE * expected
    waiting, rest = np.zeros((2, 3, TABLES)), np.zeros((2, 4))
    for _ in range(TABLE_BATCHES):
        pictures, predictions, _ = draw.batch()
        with torch.autocast("cpu", torch.bfloat16):
            cells = finest(pictures, predictions)
            cut = Cut.at_plane(cells, turns(rng, cells[0].shape[2:]))
            cut.expect(model, predictions, resting_before)
            around = model.around(predictions)
            cut.lead(partial(cut.told, model, around))
            due, told = cut.due(cut.told(model, around))
        offs = cut.off(pictures - predictions)
        for level, (named, trit, grid) in enumerate(zip(told, cut.trits(), cut.grids(), strict=True)):
            now, table = due[level], named[due[level]].astype(np.intp)
            trits += np.bincount(3 * table + trit[now] + 1, minlength=3 * TABLES).reshape(TABLES, 3)
            cell, known = cut.cells[level], cut.known[level]
            open_here = latents.open_in(known, grid, level)
            off = np.where(open_here, 3, 1) * offs[level]
            kind = np.minimum(np.abs(cell), 3)
            place = (TABLES * np.minimum(kind, 2) + named)[open_here].astype(np.intp)
            waiting[0] += np.bincount(place, minlength=waiting[0].size).reshape(3, TABLES)
            waiting[1] += np.bincount(place, off[open_here], waiting[0].size).reshape(3, TABLES)
            outward = (off * np.sign(cell))[~open_here]
            rest[0] += np.bincount(kind[~open_here], minlength=4)
            rest[1] += np.bincount(kind[~open_here], outward, 4)
    middle = expected[:, 2] - expected[:, 0]
    likely = (waiting[1] + BEFORE * middle) / (waiting[0] + BEFORE)
    outward = rest[1] / rest[0].clip(1)
    outward[0] = 0
    return {
        "trit.frequencies": np.array([integer_frequencies(row, PRECISION) for row in trits], np.uint16),
        "order": ORDER,
        "thresholds": streams.THRESHOLDS,
        "first.zero": model.first_zero.byte().numpy(),
        "first.lean": model.first_lean.char().numpy(),
        "magnitude": streams.MAGNITUDE,
        "settle.waiting": np.round(likely * latents.STEP_UNITS).clip(-96, 96).astype(np.int8),
        "settle.rest": np.round(outward * latents.STEP_UNITS).clip(-32, 32).astype(np.int8),
        "asked": np.array([ASKED], np.uint8),
        "expects": np.array([EXPECTS], np.uint8),
    }


def integer_frequencies(weights: np.ndarray, precision: int) -> np.ndarray:
    """Return integers of at least 1 and sum 2^precision in proportion to positive weights."""
    total = 1 << precision
    scaled = np.floor(weights / weights.sum() * (total - len(weights))).astype(np.int64)
    shares: np.ndarray = np.maximum(1, scaled)
    shares[np.argmax(shares)] += total - shares.sum()
    return shares


def layers(model: Texture) -> Iterator[tuple[str, nn.Conv2d]]:
    """Yield the frozen layers of a model, and their names."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            yield name, module


@torch.no_grad()
def warm(model: Texture) -> bool:
    """Give the networks the newest weights that were kept; tell whether there are any for such networks."""
    try:
        frozen = weights.load(weights.newest("texture"))
        for key in ("zero", "lean"):
            getattr(model, f"first_{key}").copy_(torch.from_numpy(frozen[f"first.{key}"].astype(np.float32)))
        for name, layer in layers(model):
            thaw(layer, frozen.part(name), **UNITS.get(name, {}))
    except (WeightsError, KeyError):
        return False
    return True
