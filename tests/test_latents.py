from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecodec import latents
from facecodec.latents import (
    FIRST,
    GONE_UNITS,
    LEANS,
    OFFSETS,
    PARTS,
    PLANES,
    STEP_UNITS,
    TABLES,
    TURNS,
    WIDTHS,
    ZEROS,
    Latents,
    above,
    depth,
    due,
    finest,
    first_told,
    gone,
    magnified,
    offset,
    open_in,
    seen,
    settled,
    table,
)
from facecodec.wavelet import BANDS, LEVELS

levels = st.integers(0, LEVELS - 1)
seeds = st.integers(0, 2**32)
MAGNITUDE = np.random.default_rng(0).integers(0, 256, (2, 64)).astype(np.uint8)
WAITING = np.random.default_rng(1).integers(-96, 97, (3, TABLES)).astype(np.int8)
REST = np.array([-32, 32, 5, -7], np.int8)


def state(seed, level, count=60):
    """Return cells, planes, turns gone and tables of latents in one column, of all kinds."""
    rng = np.random.default_rng(seed)
    known = rng.integers(FIRST[level], PLANES + 1, (9, count, 1)).astype(np.uint8)
    tops = 3 ** (known.astype(int) - FIRST[level]) // 2
    cell = np.round(tops * rng.uniform(-1, 1, known.shape) ** 3).astype(np.int16)
    turns = rng.integers(-1, TURNS + 1, (1, count, 1)).astype(np.int8)
    told = rng.integers(0, TABLES, known.shape).astype(np.uint16)
    return cell, known, turns, told


@given(st.integers(1, 5), st.integers(1, 5))
def test_levels_follow_each_other_coarsest_first(height, width):
    unknown = Latents.unknown(height, width)
    assert (unknown.cell.dtype, unknown.known.dtype) == (np.int16, np.uint8)
    assert not unknown.cell.any()
    flat = np.arange(unknown.cell.size)
    parts = unknown.levels(flat)
    assert [part.shape for part in parts] == [
        (bands, height << level, width << level) for level, bands in enumerate(BANDS)
    ]
    assert np.concatenate([part.ravel() for part in parts]).tolist() == flat.tolist()
    for level, planes in enumerate(unknown.levels(unknown.known)):
        assert (planes == FIRST[level]).all()
        planes[:] = 7
    assert (unknown.known == 7).all()


@given(st.integers(1, 70_000))
def test_blocks_cover_all_pixels_and_no_more(size):
    assert 16 * (latents.blocks(size) - 1) < size <= 16 * latents.blocks(size)


@given(st.integers(0, 2 * TURNS), st.integers(0, TURNS))
def test_turns_gone_are_counted_from_the_first_of_a_block(turn, delay):
    found = gone(turn, np.full((1, 1), delay, np.uint8))
    assert found.dtype == np.int8
    assert found.item() == max(-1, min(TURNS, turn - delay))


def come(turn, part):
    """Return how far one block has come: the halves of turns, and the share of the last one."""
    halves, share = depth(np.array([[[turn]]], np.int8), part).ravel().tolist()
    return halves, share


@given(st.integers(0, TURNS - 1), st.sampled_from([-1, 0, 1]))
def test_turns_are_counted_in_halves_and_the_last_one_in_shares(turn, part):
    (before, _), (now, share), (after, _) = (come(turn + more, part) for more in (-1, 0, 1))
    assert before <= now <= after
    assert (now, share) == (max(0, 2 * turn + part), 32 * (part + 1))


@given(st.integers(0, TURNS - 2))
def test_only_the_share_tells_the_end_of_a_turn_from_the_beginning_of_the_next(turn):
    assert come(turn, 1) == (2 * turn + 1, 64)
    assert come(turn + 1, -1) == (2 * turn + 1, 0)


@pytest.mark.parametrize("part", [-1, 0, 1])
def test_blocks_that_have_not_begun_or_are_done_stay_in_range(part):
    assert come(-1, part) == (0, 0)
    assert come(TURNS, part) == (2 * TURNS, 64)


@given(levels)
def test_each_latent_lies_in_its_block(level):
    grid = magnified(np.arange(6, dtype=np.int8).reshape(1, 2, 3), level)
    for row, column in np.ndindex(*grid.shape[1:]):
        assert grid[0, row, column] == 3 * (row >> level) + (column >> level)


@given(levels, st.integers(-4000, 4000))
def test_cells_are_nested_thirds(level, wanted):
    top = 3 ** (PLANES - FIRST[level]) // 2
    place = np.array([max(-top, min(top, wanted))], np.int16)
    cell = np.zeros(1, np.int16)
    for known in range(FIRST[level], PLANES):
        now, then = (above(place, np.array([planes], np.uint8)) for planes in (known, known + 1))
        assert now == cell
        assert abs(int(then[0]) - 3 * int(now[0])) <= 1
        assert abs(int(place[0]) - int(WIDTHS[known]) * int(now[0])) <= WIDTHS[known] // 2
        cell = then
    assert cell == place


@given(levels, st.floats(-500_000, 500_000))
def test_the_finest_cell_is_the_nearest(level, sample):
    top = 3 ** (PLANES - FIRST[level]) // 2
    cell = int(finest(np.array([sample], np.float32), level)[0])
    assert abs(cell) <= top
    if abs(sample) < STEP_UNITS * top:
        assert abs(sample - STEP_UNITS * cell) <= STEP_UNITS / 2 + 0.05
    else:
        assert cell == (top if sample > 0 else -top)


@given(seeds, levels)
def test_a_latent_waits_in_the_turns_of_its_plane_and_in_no_other(seed, level):
    known = state(seed, level)[1]
    waiting = [open_in(known, np.full((1, 60, 1), turn, np.int8), level) for turn in range(-1, TURNS + 1)]
    turns = np.array(waiting).argmax(0) - 1
    assert (np.sum(waiting, 0) == np.where(known < PLANES, PARTS, 0)).all()
    assert (turns == PARTS * known.astype(int))[known < PLANES].all()


@given(seeds, levels, st.tuples(st.integers(0, TABLES), st.integers(0, TABLES)))
def test_whatever_a_plane_begins_with_its_last_turn_ends(seed, level, first):
    _, known, _, told = state(seed, level)
    thresholds = np.array([*first, TABLES], np.uint16)
    before = known.copy()
    for part in range(PARTS):
        turn = np.full((1, 60, 1), PARTS * 5 + part, np.int8)
        now = due(known, turn, told, level, thresholds)
        assert (now == ((known == 5) & (told < thresholds[part]))).all()
        known = known + now
    assert (known == before + (before == 5)).all()


@given(seeds, levels)
def test_networks_see_what_the_specification_says(seed, level):
    cell, known, turns, _ = state(seed, level)
    off = np.random.default_rng(seed).integers(-128, 128, cell.shape).astype(np.int16)
    found = seen(cell, known, turns, off, level, MAGNITUDE)
    assert (found.dtype, found.shape) == (np.uint8, (28, 60, 1))
    for channel, row in np.ndindex(9, 60):
        passed, has = int(turns[0, row, 0]), int(known[channel, row, 0])
        refined = level <= passed // 3 < has
        place = int(cell[channel, row, 0]) * (1 if refined else 3)
        assert found[channel, row, 0] == 8 * (max(-9, min(9, place)) + 9)
        assert found[9 + channel, row, 0] == MAGNITUDE[0 if refined else 1, min(63, abs(place))]
        assert found[18, row, 0] == GONE_UNITS * max(0, min(TURNS - 1, passed))
        assert found[19 + channel, row, 0] == off[channel, row, 0] + 128


@given(seeds, levels)
def test_planes_bands_and_offsets_tell_the_first_tables(seed, level):
    rng = np.random.default_rng(seed)
    zero = rng.integers(0, ZEROS, (PLANES, 3, 9, OFFSETS)).astype(np.uint8)
    lean = rng.integers(-(LEANS // 2), LEANS // 2 + 1, (PLANES, 3, 9, OFFSETS)).astype(np.int8)
    cell, _, turns, _ = state(seed, level)
    off = rng.integers(-128, 128, cell.shape).astype(np.int16) // rng.choice([1, 4, 64])
    found, leans = first_told(cell, turns, off, zero, lean)
    for channel, row in np.ndindex(9, 60):
        at, offset_here = int(cell[channel, row, 0]), int(off[channel, row, 0])
        away = int(np.sign(at or offset_here))
        part = (min(95, max(-96, away * offset_here)) + 100) // 8
        place = max(0, min(TURNS - 1, int(turns[0, row, 0]))) // 3, min(2, abs(at)), channel, part
        assert found[channel, row, 0] == zero[place]
        assert leans[channel, row, 0] == away * int(lean[place])


def test_offsets_are_whole_quotients_halves_up_as_far_as_samples_go():
    far = 1 << 22
    expected = np.concatenate(
        [np.arange(-4000, 4001), np.arange(1 - far, 4001 - far), np.arange(far - 4000, far)]
    )
    for known in range(PLANES + 1):
        width = 3 ** (PLANES - known)
        whole = (2 * expected + width) // (2 * width)
        cell = (whole // STEP_UNITS).clip(-3280, 3280).astype(np.int16)
        for beside in (-2, -1, 0, 1, 2):
            at = cell + np.int16(beside)
            found = offset(at, np.full(at.shape, known, np.uint8), expected.astype(np.int32))
            assert found.dtype == np.int16
            assert np.array_equal(found, (whole - STEP_UNITS * at.astype(int)).clip(-128, 127))


@given(seeds, levels, st.integers(-200, 200))
def test_offsets_count_from_the_middle_of_a_cell_in_its_width(seed, level, wanted):
    cell, known, _, _ = state(seed, level)
    width = WIDTHS[known].astype(np.int32)
    for inexact in (-1, 0, 1):
        expected = width * (STEP_UNITS * cell.astype(int) + wanted) + inexact * (width // 2)
        found = offset(cell, known, expected)
        assert found.dtype == np.int16
        assert (np.abs(found - max(-128, min(127, wanted))) <= abs(inexact)).all()


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_every_table_has_one_name_and_far_names_are_brought_into_range(dtype):
    zero, lean = (part.astype(dtype) for part in np.mgrid[-60:111, -60:61])
    order = np.random.default_rng(0).permutation(TABLES).astype(np.uint16).reshape(ZEROS, LEANS)
    found = table(zero, lean, order)
    assert found.dtype == np.uint16
    inside = (zero >= 0) & (zero < ZEROS) & (np.abs(lean) <= LEANS // 2)
    assert np.sort(found[inside]).tolist() == [*range(TABLES)]
    named = order.argsort(axis=None)[found]
    assert (named // LEANS == zero.clip(0, ZEROS - 1)).all()
    assert (named % LEANS == lean.clip(-(LEANS // 2), LEANS // 2) + LEANS // 2).all()


@given(seeds, levels)
def test_a_settled_latent_stays_in_its_cell(seed, level):
    cell, known, turns, told = state(seed, level)
    samples = settled(cell, known, told, turns, level, WAITING, REST)
    assert samples.dtype == np.int32
    width = STEP_UNITS * WIDTHS[known].astype(int)
    assert (2 * np.abs(samples - width * cell) <= width).all()


@given(seeds, levels)
def test_what_settles_a_latent_is_what_is_known_of_it(seed, level):
    cell, known, turns, told = state(seed, level)
    samples = settled(cell, known, told, turns, level, WAITING, REST)
    waits = open_in(known, turns, level)
    for at in np.ndindex(*cell.shape):
        place, planes = int(cell[at]), int(known[at])
        if waits[at]:
            expected = 3 ** (7 - planes) * (192 * place + int(WAITING[min(2, abs(place)), told[at]]))
        else:
            expected = 3 ** (8 - planes) * (64 * place + int(np.sign(place)) * int(REST[min(3, abs(place))]))
        assert samples[at] == expected


@given(seeds, levels)
def test_the_finest_cell_of_a_settled_latent_that_is_wholly_known_is_its_own(seed, level):
    cell, known, turns, told = state(seed, level)
    rest = np.array([0, 31, -31, 20], np.int8)
    samples = settled(cell, known, told, turns, level, WAITING, rest)
    whole = known == PLANES
    assert (finest(samples, level) == cell)[whole].all()
