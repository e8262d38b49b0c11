from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facecodec import exact
from facecodec.exact import LIMIT, Layer
from facecodec.networks import exact_torch


@contextmanager
def torch_settings(threads: int, onednn: bool) -> Iterator[None]:
    before = torch.get_num_threads(), torch.backends.mkldnn.enabled
    torch.set_num_threads(threads)
    torch.backends.mkldnn.enabled = onednn
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.backends.mkldnn.enabled = before[1]


@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.sampled_from([1, 8]),
    channels=st.sampled_from([1, 3, 16, 33, 64]),
    outputs=st.sampled_from([1, 3, 16, 40]),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
)
@settings(max_examples=60)
def test_torch_agrees_bit_for_bit(
    seed: int, batch: int, channels: int, outputs: int, size: tuple[int, int], kernel: int, stride: int
) -> None:
    rng = np.random.default_rng(seed)
    bound = int(rng.integers(1, 8192))
    most = (LIMIT // 2) // (bound * channels * kernel * kernel)
    layer = Layer.from_integers(
        rng.integers(-most, most + 1, (outputs, channels, kernel, kernel)),
        rng.integers(-(1 << 20), 1 << 20, outputs),
        rng.integers(0, 23, outputs),
        input_bound=bound,
        lo=-(1 << 15),
        hi=1 << 15,
        stride=stride,
    )
    x = rng.integers(-bound, bound + 1, (batch, channels, *size)).astype(np.float32)
    x.flags.writeable = False
    expected = exact.conv2d(x, layer)
    for threads, onednn in product((1, 2), (True, False)):
        with torch_settings(threads, onednn):
            result = exact_torch.conv2d(x, layer)
        assert result.dtype == np.float32
        assert result.tobytes() == expected.tobytes()


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.sampled_from([1, 2]), st.integers(1, 40), st.integers(1, 20), st.integers(1, 20)),
    outputs=st.integers(1, 40),
    most=st.sampled_from([1, 7, 127]),
    shift=st.integers(0, 15),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    span=st.sampled_from([(0, 255), (-2047, 2047), (-9, 300), (-300, 9)]),
    shortcut=st.sampled_from([None, np.uint8, np.float32]),
)
@settings(max_examples=200)
def test_maps_of_bytes_agree_bit_for_bit_also_onto_others(
    seed: int,
    shape: tuple[int, int, int, int],
    outputs: int,
    most: int,
    shift: int,
    kernel: int,
    stride: int,
    span: tuple[int, int],
    shortcut: type[np.generic] | None,
) -> None:
    rng = np.random.default_rng(seed)
    layer = Layer.from_integers(
        rng.integers(-most, most + 1, (outputs, shape[1], kernel, kernel)),
        rng.integers(-(200 << shift), 200 << shift, outputs),
        np.full(outputs, shift),
        input_bound=255,
        lo=span[0],
        hi=span[1],
        stride=stride,
    )
    x = rng.integers(0, 256, shape).astype(np.uint8)
    made = (shape[0], outputs, -(-shape[2] // stride), -(-shape[3] // stride))
    onto = None if shortcut is None else rng.integers(0, 256, made).astype(shortcut)
    expected = exact.conv2d(x.copy(), layer, onto if onto is None else onto.copy())
    for _ in range(2):  # the maps are not spent
        assert np.array_equal(exact_torch.conv2d(x, layer, onto), expected)


@pytest.mark.parametrize(("inputs", "outputs"), [(24, 32), (48, 32), (64, 64), (192, 256)])
@pytest.mark.parametrize("stride", [1, 2])
def test_narrow_maps_of_bytes_agree_bit_for_bit(inputs: int, outputs: int, stride: int) -> None:
    """With AMX, oneDNN of torch 2.13 gets strided ones wrong whose results are one column wide."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-30, 31, (outputs, inputs, 3, 3))
    shift = np.full(outputs, 10)
    layer = Layer.from_integers(weight, shift << 7, shift, input_bound=255, lo=0, hi=255, stride=stride)
    for height in (1, 2, 3, 9, 10, 12, 20, 35):
        for width in (1, 2, 3, 4, 5):
            for size in ((height, width), (width, height)):
                x = rng.integers(0, 256, (1, inputs, *size)).astype(np.uint8)
                assert np.array_equal(exact_torch.conv2d(x, layer), exact.conv2d(x, layer)), size


@pytest.fixture
def layer() -> Layer:
    return Layer.from_integers(
        np.full((16, 16, 3, 3), 5), np.zeros(16, int), np.zeros(16, int), input_bound=4095, lo=0, hi=LIMIT - 1
    )


def test_autocast_does_not_reach_it(layer: Layer) -> None:
    x = np.random.default_rng(0).integers(0, 4096, (1, 16, 8, 8)).astype(np.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(exact_torch.conv2d(x, layer), exact.conv2d(x, layer))


def test_reduced_precision_is_refused(layer: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    with pytest.raises(RuntimeError, match="highest"):
        exact_torch.conv2d(np.zeros((1, 16, 8, 8), np.float32), layer)


def test_reduced_convolutions_are_refused(layer: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "conv", SimpleNamespace(fp32_precision="bf16"), raising=False)
    with pytest.raises(RuntimeError, match="ieee"):
        exact_torch.conv2d(np.zeros((1, 16, 8, 8), np.float32), layer)


def test_linear_and_networks_run_with_either(layer: Layer) -> None:
    weight = np.random.default_rng(1).integers(-9, 9, (5, 7, 1, 1))
    small = Layer.from_integers(weight, np.zeros(5, int), np.zeros(5, int), input_bound=9, lo=-9999, hi=9999)
    x = np.random.default_rng(2).integers(-9, 9, (4, 7)).astype(np.float32)
    assert np.array_equal(exact.linear(x, small), exact.linear(x, small, exact_torch.conv2d))
