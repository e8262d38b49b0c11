from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecodec import entropy
from facecodec.entropy import code_groups, ordered, read_codes, tables
from facecodec.errors import WeightsError

latents = st.lists(st.tuples(st.booleans(), st.integers(0, 866)), max_size=80)


def arrays(pairs):
    due, told = np.array(pairs, np.uint16).reshape(-1, 2).T
    return due.astype(np.bool_), told


def batches(due, told):
    """Return the batches of what is due, as lists of (table, position)."""
    return [
        [*zip(named.tolist(), positions.tolist(), strict=True)] for positions, named in ordered(due, told)
    ]


@given(latents)
def test_what_is_due_comes_by_table_and_then_by_position(pairs):
    found = [item for batch in batches(*arrays(pairs)) for item in batch]
    assert found == sorted((table, position) for position, (now, table) in enumerate(pairs) if now)


@given(latents, st.integers(1, 30), st.sampled_from([1, 5, 867]))
def test_batches_change_nothing_and_are_small(pairs, batch, kinds):
    due, told = arrays(pairs)
    told %= kinds
    whole = [item for part in batches(due, told) for item in part]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entropy, "BATCH", batch)
        parts = batches(due, told)
    assert [item for part in parts for item in part] == whole
    assert all(0 < len(part) <= batch for part in parts)


@given(latents, st.integers(1, 30))
def test_what_was_given_may_change_before_the_next_batch(pairs, batch):
    due, told = arrays(pairs)
    whole = sorted((table, position) for position, (now, table) in enumerate(pairs) if now)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entropy, "BATCH", batch)
        for positions, named in ordered(due, told):
            found += zip(named.tolist(), positions.tolist(), strict=True)
            due[positions] = False
    assert found == whole


def test_nothing_due_gives_no_batch():
    assert batches(np.zeros(9, np.bool_), np.zeros(9, np.uint16)) == []


CODERS = tables(np.array([[1 + 4065 * (i == j) for j in range(31)] for i in range(3)]), "rows")


@given(st.integers(0, 3), st.integers(0, 2**32))
def test_codes_are_read_as_they_were_written(faces, seed):
    codes = np.random.default_rng(seed).integers(-15, 16, (faces, 24))
    groups = code_groups(codes, CODERS)
    assert [group[0].size for group in groups] == [8 * faces] * 3
    stream = iter(np.concatenate([symbols for symbols, _ in groups]).tolist())

    def take(count, table):
        assert table in CODERS
        return np.array([next(stream) for _ in range(count)], np.int32)

    assert read_codes(take, faces, CODERS).tolist() == codes.tolist()


def test_eight_dimensions_of_all_faces_share_a_table():
    codes = np.arange(32).reshape(2, 16) - 15
    assert [group[0].tolist() for group in code_groups(codes, CODERS[:2])] == [
        [*range(8), *range(16, 24)],
        [*range(8, 16), *range(24, 32)],
    ]


def test_a_bad_table_is_named():
    with pytest.raises(WeightsError, match=r"identity: frequencies .* 4095"):
        tables(np.array([[2048, 2048], [2048, 2047]]), "identity")
