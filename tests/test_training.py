from __future__ import annotations

import json
import subprocess
import sys
import warnings
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import small_weights
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from samples import noise, waves
from torch import nn

from facecodec import base_layer, enhancement, faces, latents, synthesis, texture, wavelet, weights
from facecodec.entropy import ordered
from facecodec.exact import BYTE_TOP, Layer, conv2d
from facecodec.networks import eight_bits, encoder, quantised
from facecodec.networks.embedding import Bottleneck, Trunk, scaled
from facecodec.networks.quantised import LIMIT, STEP, TOP, Activation, frozen, set_rounding, snapped, thaw
from facecodec.networks.texture import Texture, bits
from facecodec.training import (
    augment,
    discriminator,
    embedding,
    freeze,
    likeness,
    preview,
    regions,
    run,
    streams,
)
from facecodec.training import texture as texture_training
from facecodec.training.data import Pictures
from facecodec.training.embedding import IDENTITY_STEP, closest_axes, lesson, linear_head, to_batch
from facecodec.training.run import Run
from facecodec.training.teacher import Teacher
from facecodec.wavelet import BANDS

# Runs


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that runs when told to; each step is a checkpoint."""
    made = SimpleNamespace(now=0.0, monotonic=lambda: made.now)
    monkeypatch.setattr(run, "time", made)
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 0.5)
    return made


def network(seed):
    torch.manual_seed(seed)
    cell = nn.Sequential(nn.Unflatten(1, (3, 1, 1)), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten())
    return nn.Sequential(cell, nn.Linear(4, 2))


def session_of(folder, model, minutes):
    """Return a run with a kernel for Muon, a gentle bias, and all else for AdamW."""
    rates = {"rate": 1e-2, "matrix_rate": 0.1, "weight_decay": 0.1}
    learning = {"kernels": [model[0][1].weight], "gentle": [model[1].bias]}
    return Run(folder, model, minutes=minutes, **rates, **learning)


def trained(folder, clock, seconds, *, stop=None, seed=0):
    """Train on batches that follow from the step, a second each; stop as if interrupted before a step."""
    model = network(seed)
    session = session_of(folder, model, seconds / 60)
    for step in session.steps():
        if step == stop:
            return session
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        session.descend((model.train()(x) - x[:, :2]).square().mean())
        clock.now += 1
    return session


def state(session):
    return {
        **{f"model.{k}": v for k, v in session.model.state_dict().items()},
        **{f"averaged.{k}": v for k, v in session.averaged.state_dict().items()},
    }


@pytest.mark.parametrize("stop", [1, 5, 11])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tmp_path, clock, stop):
    whole = trained(tmp_path / "whole", clock, 12)
    assert (whole.step, whole.progress) == (12, 1)
    interrupted = trained(tmp_path / "parts", clock, 12, stop=stop)
    assert interrupted.step == stop
    resumed = trained(tmp_path / "parts", clock, 12, seed=9)
    assert resumed.step == 12
    expected = state(whole)
    assert all(torch.equal(value, expected[key]) for key, value in state(resumed).items())
    assert not list(tmp_path.rglob("*.part"))


def test_a_finished_run_stays_as_it_is(tmp_path, clock):
    first = state(trained(tmp_path, clock, 3))
    again = trained(tmp_path, clock, 3, seed=4)
    assert all(torch.equal(value, first[key]) for key, value in state(again).items())


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path, clock):
    session = trained(tmp_path, clock, 12, stop=5)
    before = session.checkpoint.read_bytes()

    def full_disk(tensors, path, metadata):
        path.write_bytes(before[:100])
        raise OSError("no space left")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "save_file", full_disk)
        with pytest.raises(OSError, match="no space left"):
            session.save()
    assert session.checkpoint.read_bytes() == before
    resumed = session_of(tmp_path, network(9), 1)
    assert (resumed.step, resumed.seconds) == (5, 5.0)


def test_the_average_follows_the_model(tmp_path, clock):
    session = trained(tmp_path, clock, 30)
    start = network(0).state_dict()
    for key, slow in session.averaged.state_dict().items():
        fast = session.model.state_dict()[key]
        if slow.dtype.is_floating_point:
            assert not torch.equal(slow, start[key])
            assert not torch.equal(slow, fast)
        else:
            assert torch.equal(slow, fast)
    stored = load_file(session.checkpoint)
    assert torch.equal(stored["averaged.1.weight"], session.averaged.state_dict()["1.weight"])


def test_a_gradient_that_is_no_number_moves_nothing(tmp_path, clock):
    model = network(0)
    session = session_of(tmp_path, model, 1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    session.descend(model[0][:2](torch.ones(2, 3)).sum() * float("nan"))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_log_lines_hold_means_since_the_last(tmp_path, clock, capsys):
    session = Run(tmp_path, network(0), minutes=1, rate=1e-2)
    for loss in (1.0, 3.0):
        session.note(gradient=1.0, loss=loss)
    session.log(extra=5)
    session.note(gradient=2.0, loss=7.0)
    session.log()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [2.0, 7.0]
    assert lines[0]["extra"] == 5
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == lines


WORKER = """
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from facecodec.training.run import Run, workers

with workers():
    torch.manual_seed(0)
    run = Run(Path(sys.argv[1]), torch.nn.Linear(3, 2), minutes=60, rate=1e-2)
    share = slice(run.worker, run.worker + 1) if dist.is_initialized() else slice(None)
    for step in run.steps():
        if step == 3:
            break
        x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(step))[share]
        run.descend((run.model(x) - x[..., :2]).square().mean())
    Path(sys.argv[1], f"{run.worker}.txt").write_text(str(run.model.weight.tolist()))
"""


def test_workers_share_each_step(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    alone, both = (tmp_path / name for name in ("alone", "both"))
    subprocess.run([sys.executable, script, alone], check=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    # Its status is not asked for: torch's threads may abort an interpreter that has nothing left to do.
    subprocess.run([*torchrun, script, both], capture_output=True)
    expected, *weights = (
        torch.tensor(json.loads(path.read_text()))
        for path in (alone / "0.txt", both / "0.txt", both / "1.txt")
    )
    assert torch.equal(*weights)
    assert torch.allclose(weights[0], expected, atol=1e-6)


# Tables


@given(st.lists(st.floats(1e-9, 1e6), min_size=2, max_size=31), st.sampled_from([12, 14, 16]))
def test_frequencies_follow_their_weights_and_are_never_zero(shares, precision):
    shares = np.array(shares)
    made = texture_training.integer_frequencies(shares, precision)
    assert made.sum() == 1 << precision
    assert made.min() >= 1
    wanted = shares / shares.sum() * (1 << precision)
    assert np.abs(made - wanted).max() <= 2 * len(shares)


# Float to integer


def layer_of(parts, bound, lo=0, hi=TOP, stride=1):
    return Layer.from_integers(
        parts["weight"], parts["bias"], parts["shift"], input_bound=bound, lo=lo, hi=hi, stride=stride
    )


def random_conv(rng, outputs, inputs, kernel, size=1.0):
    torch.manual_seed(int(rng.integers(1 << 30)))
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    with torch.no_grad():
        conv.weight *= size
        conv.bias.uniform_(-2, 2)
    return conv.requires_grad_(False)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), kernel=st.sampled_from([1, 3]), top=st.sampled_from([127, 32767]))
def test_a_frozen_layer_computes_what_its_twin_does(seed, kernel, top):
    rng = np.random.default_rng(seed)
    conv = random_conv(rng, 5, 4, kernel)
    x = rng.integers(0, TOP + 1, (1, 4, 6, 7)).astype(np.float32)
    twin = Activation()
    twin.rounding = True
    expected = twin(conv(torch.from_numpy(x) * STEP)).numpy() / STEP
    result = conv2d(x, layer_of(frozen(conv, input_bound=TOP, top=top), TOP))
    off = np.abs(result - expected)
    assert off.max() <= (1 if top > 127 else 1 + 4 * kernel**2 * TOP / 256)
    assert (off > 0).mean() < (0.1 if top > 127 else 1)


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_weights_that_are_whole_already_freeze_without_any_change(seed):
    rng = np.random.default_rng(seed)
    conv = nn.Conv2d(3, 4, 3, padding=1).requires_grad_(False)
    conv.weight.copy_(torch.from_numpy(rng.integers(-60, 61, (4, 3, 3, 3)) / 2.0**7))
    conv.bias.copy_(torch.from_numpy(rng.integers(-500, 501, 4) * STEP / 2.0**7))
    x = rng.integers(0, TOP + 1, (2, 3, 5, 5)).astype(np.float32)
    twin = Activation()
    twin.rounding = True
    expected = twin(conv.double()(torch.from_numpy(x).double() * STEP)).numpy() / STEP
    assert np.array_equal(conv2d(x, layer_of(frozen(conv, input_bound=TOP), TOP)), expected)


@pytest.mark.parametrize("seed", range(8))
def test_rounding_of_weights_does_not_move_what_usual_inputs_give(seed):
    rng = np.random.default_rng(seed)
    conv = random_conv(rng, 5, 4, 3)
    usual = rng.integers(100, 256, 4)
    x = np.broadcast_to(usual[:, None, None], (1, 4, 5, 5)).astype(np.float32)
    exactly = (conv.double()(torch.from_numpy(x).double() * STEP) / STEP).numpy()[0, :, 2, 2]

    def off(**more):
        layer = layer_of(frozen(conv, input_bound=TOP, top=15, **more), TOP, -(1 << 20), 1 << 20)
        return np.abs(conv2d(x, layer)[0, :, 2, 2] - exactly)

    assert off(usual=usual).max() <= 1
    assert off().max() > 2


def test_steps_and_signs_are_those_of_input_and_output():
    conv = random_conv(np.random.default_rng(1), 3, 2, 1)
    x = np.random.default_rng(2).integers(-15, 16, (1, 2, 4, 4)).astype(np.float32)
    parts = frozen(conv, input_bound=15, input_step=1 / 4, output_step=1 / 8)
    expected = np.floor(conv(torch.from_numpy(x) / 4).numpy() * 8 + 0.5)
    assert np.abs(conv2d(x, layer_of(parts, 15, -8191, 8191)) - expected).max() <= 1


@pytest.mark.parametrize("top", [127, 32767])
def test_each_channel_takes_the_largest_shift_that_is_proved(top):
    conv = random_conv(np.random.default_rng(3), 6, 8, 3)
    conv.weight *= torch.logspace(-3, 1, 6)[:, None, None, None]
    bound = np.array([1, 2, 4, 8, 16, 32, 64, 511])
    parts = frozen(conv, input_bound=bound, top=top)
    layer_of(parts, bound)
    assert {key: value.dtype.name for key, value in parts.items()} == {
        "weight": "int8" if top == 127 else "int16",
        "bias": "int32",
        "shift": "uint8",
    }
    for kernel, offset, integers, shift in zip(
        conv.weight.double().numpy(),
        conv.bias.double().numpy(),
        parts["weight"],
        parts["shift"].tolist(),
        strict=True,
    ):
        assert np.abs(integers).max() <= top
        assert integers.tolist() == np.round(kernel * 2.0**shift).tolist()
        finer = np.abs(np.round(kernel * 2.0 ** (shift + 1)))
        start = abs(round(offset / STEP * 2.0 ** (shift + 1)))
        reach = (finer.sum((1, 2)) * bound).sum() + start + 2.0**shift
        assert shift == quantised.MAX_SHIFT or finer.max() > top or reach >= LIMIT


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from([STEP, 1 / 4]), st.sampled_from([STEP, 1 / 8]))
def test_what_is_thawed_freezes_to_the_same_integers(seed, input_step, output_step):
    conv = random_conv(np.random.default_rng(seed), 4, 3, 3)
    steps = {"input_step": input_step, "output_step": output_step}
    parts = frozen(conv, input_bound=TOP, top=127, **steps)
    again = nn.Conv2d(3, 4, 3, padding=1)
    thaw(again, parts, **steps)
    refrozen = frozen(again, input_bound=TOP, top=127, **steps)
    for key in ("weight", "bias"):
        before, after = (np.ldexp(x[key].T, -x["shift"].astype(int)) for x in (parts, refrozen))
        assert np.array_equal(before, after)


def test_weights_too_large_for_any_shift_are_refused():
    conv = random_conv(np.random.default_rng(4), 1, 1, 1, 1e6)
    with pytest.raises(ValueError, match="too large for any shift"):
        frozen(conv, input_bound=TOP)


@pytest.mark.parametrize("seed", range(3))
def test_roundings_of_weights_make_up_for_each_other(seed):
    """On inputs that go together, as neighbouring pixels do, the sums are moved by much less."""
    rng = np.random.default_rng(seed)
    conv = random_conv(rng, 4, 8, 3, 0.2)
    smooth = nn.functional.interpolate(
        torch.from_numpy(rng.uniform(0, 255, (4, 8, 6, 6))), scale_factor=4, mode="bilinear"
    )
    x = smooth.round().numpy()
    patches = nn.functional.unfold(torch.from_numpy(x), 3, padding=1).transpose(1, 2).flatten(0, 1).numpy()
    exactly = conv.double()(torch.from_numpy(x) * STEP).numpy() / STEP

    def error(**more):
        parts = frozen(conv, input_bound=BYTE_TOP, top=15, **more)
        assert np.abs(parts["weight"]).max() <= 15
        unit = np.ldexp(1.0, -parts["shift"].astype(int))[:, None, None]
        sums = nn.functional.conv2d(
            torch.from_numpy(x), torch.from_numpy(parts["weight"].astype(float)), padding=1
        ).numpy()
        return np.square((sums + parts["bias"][:, None, None]) * unit - exactly).mean()

    mean = x.mean((0, 2, 3))
    assert error(usual=mean, spread=np.cov(patches.T)) < error(usual=mean) / 4


@pytest.mark.parametrize("stride", [1, 2])
def test_inputs_of_a_layer_are_counted_as_its_weights_meet_them(stride, monkeypatch):
    monkeypatch.setattr(freeze, "PATCHES_EVERY", 2)
    conv = nn.Conv2d(3, 2, 3, stride, 1)
    seen = freeze._Seen(conv)
    maps = np.random.default_rng(0).integers(0, 256, (4, 2, 3, 7, 9)).astype(np.float32)
    with torch.autocast("cpu", torch.bfloat16):
        for part in maps:
            conv(torch.from_numpy(part) * STEP)
    assert np.allclose(seen.mean(), maps.mean((0, 1, 3, 4)))
    padded = np.pad(maps[::2].reshape(4, 3, 7, 9), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::stride, ::stride]
    patches = windows.transpose(1, 4, 5, 0, 2, 3).reshape(27, -1)
    assert np.allclose(seen.covariance(), np.cov(patches, bias=True), rtol=1e-4, atol=0.1)


def test_rounding_passes_the_gradient():
    x = torch.linspace(-1, 9, 101, requires_grad=True)
    model = nn.Sequential(Activation())
    for rounding in (False, True):
        set_rounding(model, rounding)
        x.grad = None
        y = model(x)
        y.sum().backward()
        inside = (x > 0) & (x < TOP * STEP)
        assert torch.equal(x.grad, inside.float())
        assert bool((y == snapped(y, STEP)).all()) is rounding
    assert y.min() == 0
    assert y.max() == TOP * STEP


def test_rounding_has_no_bias_in_bfloat16():
    act = Activation(BYTE_TOP)
    set_rounding(act, True)
    whole = torch.arange(BYTE_TOP + 1) * STEP
    assert torch.equal(act(whole.bfloat16()), whole.bfloat16())
    between = torch.rand(100_000, generator=torch.Generator().manual_seed(0)) * BYTE_TOP * STEP
    assert abs((act(between.bfloat16()).float() - between).mean().item()) < 0.01 * STEP


# Textures


class Draws:
    """Stands in for crops of pictures: smooth ones, and predictions that are smoother."""

    def __init__(self, data, cache, seed):
        self.rng = np.random.default_rng(seed)

    def batch(self):
        found = [waves(64, 64, int(seed)) for seed in self.rng.integers(0, 1000, texture_training.BATCH)]
        pictures = torch.from_numpy(np.array(found)).permute(0, 3, 1, 2).float()
        predictions = nn.functional.avg_pool2d(pictures, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
        return pictures, predictions.round(), torch.zeros(len(found), 2, 3)


@pytest.fixture
def drawn(monkeypatch):
    monkeypatch.setattr(texture_training, "Draw", Draws)
    for name, value in {"BATCH": 2, "REST_BATCHES": 2, "FIRST_BATCHES": 2, "TABLE_BATCHES": 3}.items():
        monkeypatch.setattr(texture_training, name, value)


def wild(seed=0):
    """Return texture networks whose every output means something."""
    torch.manual_seed(seed)
    model = Texture()
    for layer in (*model.trits.tell.values(), model.filter.finish):
        nn.init.normal_(layer.weight, std=0.05)
    model.first_zero.random_(0, latents.ZEROS)
    model.first_lean.random_(-(latents.LEANS // 2), latents.LEANS // 2 + 1)
    return model.eval()


def seen_by_networks(rng, size=(2, 3)):
    """Return what networks see of latents of which anything is known."""
    return [
        rng.integers(0, 256, (1, 3 * bands + 1, size[0] << level, size[1] << level)).astype(np.uint8)
        for level, bands in enumerate(BANDS)
    ]


def hints_of(features, model):
    """Return what features of the filter tell networks, coarsest level first."""
    return [
        conv2d(part, model.layers[f"hint.{grid}"]).astype(np.uint8)
        for grid, part in zip((16, 8, 4, 2), features, strict=True)
    ]


@pytest.mark.usefixtures("drawn")
def test_a_frozen_texture_computes_what_was_trained(tmp_path, monkeypatch):
    network = wild()
    (tmp_path / "texture").mkdir()
    stored = {f"averaged.{key}": value.contiguous() for key, value in network.state_dict().items()}
    save_file(stored, tmp_path / "texture" / "checkpoint.safetensors")
    (tmp_path / "regions").mkdir()
    np.save(tmp_path / "regions" / "weight.npy", np.ones((18, 18)))
    freeze.freeze_texture(tmp_path, tmp_path, tmp_path / "weights", 3)
    monkeypatch.setenv("FSC_WEIGHTS", str(tmp_path / "weights"))
    model = texture.load("texture-v3")
    assert (model.asked, model.expects) == (texture_training.ASKED, streams.EXPECTS)
    assert np.array_equal(model.order, streams.ORDER)
    assert model.thresholds.tolist() == streams.THRESHOLDS.tolist()
    assert np.array_equal(np.concatenate(model.zero, 2), network.first_zero.numpy())
    assert np.array_equal(np.concatenate(model.lean, 2), network.first_lean.numpy())

    set_rounding(network, True)
    rng = np.random.default_rng(0)
    prediction, rough = waves(32, 48), waves(32, 48, 1)
    views = seen_by_networks(rng)
    gone = np.array([[[[-1, 0, 5], [11, 23, 24]]]], np.int8)
    around = texture.surroundings(prediction, model)
    planes = [np.ascontiguousarray(part.transpose(2, 0, 1)[None]) for part in (rough, prediction)]
    passed = latents.depth(gone, -1)
    lacking, features = synthesis.filtered(*planes, passed, model)
    hints = hints_of(features, model)
    changes = texture.changed(views, hints, around.at_8, around.at_16, model)
    with torch.inference_mode():
        pixels = [torch.from_numpy(part).float() for part in planes]
        at_8, at_16 = network.around(pixels[1])
        twin, _ = network.filter(*pixels, torch.from_numpy(passed).float())
        seen, hinted, told = (
            [torch.from_numpy(part).float() for part in parts] for parts in (features, hints, views)
        )
        hint = network.hint([part * STEP for part in seen])
        twins = network.trits(told, [part * STEP for part in hinted], at_8, at_16)
    for mine, other in zip((around.at_8, around.at_16, *hints), (at_8, at_16, *hint), strict=True):
        off = np.abs(mine - other.numpy() / STEP)
        assert off.max() <= 6
        assert off.mean() < 0.5
    for mine, other in zip(changes, twins, strict=True):
        off = np.abs(mine - other.numpy().clip(-latents.ZEROS, latents.ZEROS))
        assert np.abs(mine).max() > 10
        assert off.max() <= 3
        assert off.mean() < 0.4
    off = np.abs(lacking / synthesis.LACKING_UNITS - twin.numpy())
    assert np.abs(lacking).mean() > 40
    assert off.max() <= 4
    assert off.mean() < 0.6

    cut = streams.Cut.at_plane(streams.finest(*crop()), np.full((1, 1, 4, 5), 12, np.int8))
    cut.expect(network, crop()[1], model.rest)
    flat_cell, flat_known, wanted = (
        np.concatenate([level.ravel() for level in part]) for part in (cut.cells, cut.known, cut.expected)
    )
    end = synthesis.End(
        latents.Latents(4, 5, flat_cell, flat_known),
        np.zeros(flat_cell.size, np.uint16),
        np.full((1, 4, 5), 11, np.int8),
        1,
    )
    expectation = texture.Expectation.none(end.known, model)
    synthesis.expect(end, crop()[1][0].permute(1, 2, 0).byte().numpy(), expectation, model)
    found = expectation.samples
    away = np.abs(found - latents.STEP_UNITS * latents.WIDTHS[flat_known].astype(int) * flat_cell)
    assert np.abs(found - wanted).mean() < away.mean() / 10
    for mine, other in zip(expectation.hints, cut.hints, strict=True):
        off = np.abs(mine - other[0].float().detach().numpy() / STEP)
        assert off.mean() < mine.std() / 10

    again = Texture()
    assert texture_training.warm(again)
    assert torch.equal(again.first_zero, network.first_zero)
    assert torch.equal(again.first_lean, network.first_lean)
    for (_, thawed), (_, layer) in zip(
        texture_training.layers(again), texture_training.layers(network), strict=True
    ):
        rounded = (thawed.weight - layer.weight).abs()
        assert rounded.amax() <= layer.weight.abs().amax() / 10
        assert rounded.mean() <= layer.weight.abs().amax() / 100
        made_up = STEP * BYTE_TOP * rounded.sum((1, 2, 3)) + layer.bias.abs().amax() / 100
        assert ((thawed.bias - layer.bias).abs() <= made_up + 1e-3).all()


@given(st.integers(0, 50), st.integers(-8, 8))
def test_tables_are_shares_of_three_trits(zero, lean):
    shares = [
        2 ** -bits(torch.tensor(float(zero)), torch.tensor(float(lean)), torch.tensor(trit)).item()
        for trit in (-1, 0, 1)
    ]
    assert sum(shares) == pytest.approx(1, abs=1e-6)
    assert min(shares) > 2**-15
    assert (shares[2] >= shares[0]) == (lean >= 0)
    likelier = bits(torch.tensor(zero + 1.0), torch.tensor(float(lean)), torch.tensor(0)).item()
    assert 2**-likelier >= shares[1]


@pytest.mark.usefixtures("drawn")
def test_planes_bands_and_offsets_tell_what_trits_of_crops_are(monkeypatch):
    def known(cut, network, predictions, rest):
        bands = [latents.STEP_UNITS * cell.astype(np.int32) for cell in cut.finest]
        cut.expected = [band // 2 * 2 for band in bands]

    network = Texture()
    texture_training.first_tables(network, None, None)
    zero, lean = network.first_zero.numpy(), network.first_lean.numpy()
    assert zero.min() >= 0
    assert zero.max() <= latents.ZEROS - 1
    assert np.abs(lean).max() <= latents.LEANS // 2
    middle = latents.OFFSETS // 2
    details, mean = zero[4, 0, 30:39, middle], zero[4, 0, 9:12, middle]
    assert details.min() > mean.max()
    monkeypatch.setattr(streams.Cut, "expect", known)
    texture_training.first_tables(network, None, None)
    told, leans = (part.numpy()[5, :2, 21:30] for part in (network.first_zero, network.first_lean))
    assert (told[0, :, middle] > told[0, :, middle + 3]).all()
    assert (leans[0, :, middle + 3] > 0).all()
    assert (leans[1, :3, middle - 3] < 0).all()


def test_tables_are_in_the_order_of_what_a_bit_takes_off_the_error():
    assert np.sort(streams.ORDER, None).tolist() == [*range(latents.TABLES)]
    chances = streams.trit_chances()
    assert np.allclose(chances, chances[:, ::-1, ::-1])
    assert (np.diff(chances[:, latents.LEANS // 2, 1]) > 0).all()
    chances = chances.reshape(-1, 3)[streams.ORDER.argsort(None)]
    means = chances @ (-1, 0, 1)
    worth = chances @ (1, 0, 1) - means**2
    assert (np.diff(worth / -(chances * np.log2(chances)).sum(1)) < 1e-12).all()
    assert streams.THRESHOLDS[-1] == latents.TABLES
    assert (np.diff(streams.THRESHOLDS.astype(int)) > 0).all()


@pytest.mark.usefixtures("drawn")
def test_counted_tables_follow_their_names():
    counted = texture_training.tables(wild(), None, None)
    shares = counted["trit.frequencies"] / 2**texture_training.PRECISION
    assert (shares.sum(1) == 1).all()
    named = streams.ORDER.argsort(axis=None)
    zero, lean = named // latents.LEANS, named % latents.LEANS - latents.LEANS // 2
    assert np.corrcoef(zero, shares[:, 1])[0, 1] > 0.6
    assert np.corrcoef(lean, shares[:, 2] - shares[:, 0])[0, 1] > 0.5
    middle = counted["settle.waiting"][0][streams.ORDER].astype(int)
    assert middle[5, -1] > 0 > middle[5, 0]
    assert counted["settle.rest"][0] == 0


# Streams


def told_by_nobody(network):
    """Return the model of networks that are never asked."""
    made = weights.Model("texture-v0", bytes(4), small_weights.texture(np.random.default_rng(0)))
    return replace(
        texture._load.__wrapped__(made),
        zero=np.split(network.first_zero.numpy().astype(np.uint8), np.cumsum(BANDS)[:-1], 2),
        lean=np.split(network.first_lean.numpy().astype(np.int8), np.cumsum(BANDS)[:-1], 2),
        magnitude=streams.MAGNITUDE,
        order=streams.ORDER,
        thresholds=streams.THRESHOLDS,
        asked=latents.TURNS,
        expects=latents.TURNS,
    )


def crop(seed=0):
    pictures, predictions = waves(64, 80, seed), waves(64, 80, seed + 1) // 2 + 60
    return [torch.from_numpy(part).permute(2, 0, 1)[None].float() for part in (pictures, predictions)]


@pytest.mark.parametrize("turn", [5, 9, 10, 11, 17, 23])
@pytest.mark.parametrize("latest", [0, 6])
def test_a_cut_crop_is_known_as_a_decoder_knows_it(turn, latest):
    network = wild()
    model = told_by_nobody(network)
    cells = streams.finest(*crop())
    flat = np.concatenate([level.ravel() for level in cells])
    delay = np.random.default_rng(turn).integers(0, latest + 1, (4, 5)).astype(np.uint8)
    prediction = crop()[1][0].permute(1, 2, 0).byte().numpy()

    def trits(known, positions, named):
        return latents.above(flat[positions], known.known[positions] + 1) - 3 * known.cell[positions] + 1

    cut = streams.Cut.at_plane(cells, latents.gone(turn, delay)[None, None])
    cut.lead(partial(cut.first_told, network))
    due, named = cut.due(cut.first_told(network))
    for number, reached in enumerate(enhancement.walk(trits, prediction, delay, model)):
        known = reached.known
        if number == turn - 1:
            before = zip(
                cut.cells, cut.known, known.levels(known.cell), known.levels(known.known), strict=True
            )
            for cell, planes, wanted, wanted_planes in before:
                assert np.array_equal(cell[0], wanted)
                assert np.array_equal(planes[0], wanted_planes)
        if number == turn:
            break
    cut.refine(due)
    for level, wanted in enumerate(known.levels(reached.tables)):
        if cut.gone.max() >= latents.PARTS * latents.FIRST[level]:
            assert np.array_equal(named[level][0], wanted)
        assert np.array_equal(cut.cells[level][0], known.levels(known.cell)[level])
        assert np.array_equal(cut.known[level][0], known.levels(known.known)[level])
    picture = crop()[1] + torch.from_numpy(
        wavelet.synthesised(cut.samples(named, model.waiting, model.rest))
    ) / float(wavelet.UNITS)
    counted = {"settle.waiting": model.waiting, "settle.rest": model.rest}
    rough = texture_training.rough_picture(cut, named, crop()[1], counted)
    assert torch.allclose(picture.float(), rough)


@pytest.mark.parametrize("turn", [9, 11, 16])
def test_a_crop_cut_where_the_next_turn_has_not_begun_is_known_as_a_decoder_knows_it(turn, monkeypatch):
    network = wild()
    model = told_by_nobody(network)
    monkeypatch.setattr(texture_training, "WAITING", 1.0)
    monkeypatch.setattr(streams.Cut, "told", lambda cut, network, _: cut.first_told(network))
    pictures, predictions = crop()
    cells = streams.finest(pictures, predictions)
    flat = np.concatenate([level.ravel() for level in cells])
    delay = np.zeros((4, 5), np.uint8)
    cut = streams.Cut.at_plane(cells, latents.gone(turn, delay)[None, None])
    named, told = texture_training.drawn(cut, network, predictions, np.random.default_rng(turn))
    left = sum(int(level.sum()) for level in cut.known) - int(latents.Latents.unknown(4, 5).known.sum())

    def trits(known, positions, _):
        nonlocal left
        positions = positions[:left]
        left -= positions.size
        return latents.above(flat[positions], known.known[positions] + 1) - 3 * known.cell[positions] + 1

    *_, (number, end) = enumerate(
        enhancement.walk(trits, predictions[0].permute(1, 2, 0).byte().numpy(), delay, model)
    )
    assert number == turn + 1 and int(end.gone.max()) == turn
    for flat_known, levels in (
        (end.known.cell, cut.cells),
        (end.known.known, cut.known),
        (end.tables, named),
    ):
        for wanted, level in zip(end.known.levels(flat_known), levels, strict=True):
            assert np.array_equal(level[0], wanted)
    assert np.array_equal(told.numpy(), latents.depth(end.gone[None], end.part))


def test_a_share_of_what_is_due_is_the_first_of_it():
    cut = streams.Cut.at_plane(streams.finest(*crop()), np.full((1, 1, 4, 5), 15, np.int8))
    due, named = cut.due(cut.first_told(wild()))
    flat, tables = (np.concatenate([level.ravel() for level in part]) for part in (due, named))
    ((order, _),) = ordered(flat, tables)
    for share in (0.0, 0.3, 1.0):
        chosen = streams.share_of(due, named, np.array([share]))
        now = np.flatnonzero(np.concatenate([level.ravel() for level in chosen]))
        assert set(now.tolist()) == set(order[: round(share * order.size)].tolist())


def test_trits_lead_from_any_plane_to_the_finest_cells():
    cells = streams.finest(*crop())
    cut = streams.Cut.at_plane(cells, np.zeros((1, 1, 4, 5), np.int8))
    for plane in range(latents.PLANES):
        cut.gone = np.full((1, 1, 4, 5), latents.PARTS * plane, np.int8)
        waiting = [
            latents.open_in(k, g, n) for n, (k, g) in enumerate(zip(cut.known, cut.grids(), strict=True))
        ]
        trits, before = cut.trits(), [cell.copy() for cell in cut.cells]
        cut.refine(waiting)
        for now, then, trit, waits in zip(cut.cells, before, trits, waiting, strict=True):
            assert (np.abs(trit[waits]) <= 1).all()
            assert np.array_equal(now, np.where(waits, 3 * then + trit, then))
    for cell, finest in zip(cut.cells, cells, strict=True):
        assert np.array_equal(cell, finest)


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("stage", ["learn_trits", "learn_filter"])
def test_a_stage_changes_its_networks_and_no_other(stage, tmp_path, clock):
    parts = {"learn_trits": ("around", "trits"), "learn_filter": ("filter",)}[stage]
    model = wild().train().requires_grad_(False)
    for part in parts:
        getattr(model, part).requires_grad_(True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    kernels = [p for p in model.parameters() if p.ndim == 4 and p.requires_grad]
    session = Run(tmp_path, model, minutes=1, rate=1e-3, matrix_rate=0.01, kernels=kernels)
    notes = {}
    session.note = lambda **found: notes.update(found) or setattr(clock, "now", clock.now + 16)
    getattr(texture_training, stage)(session, None, None)
    assert session.step == 2
    assert all(np.isfinite(value) for value in notes.values())
    for key, value in model.state_dict().items():
        if key.startswith(parts) and key.endswith("weight"):
            assert not torch.equal(value, before[key]), key
        elif not key.startswith((*parts, "first")):
            assert torch.equal(value, before[key]), key


def test_a_run_without_kept_weights_starts_afresh(tmp_path, monkeypatch):
    (tmp_path / "SHA256SUMS").write_text("")
    monkeypatch.setenv("FSC_WEIGHTS", str(tmp_path))
    assert not texture_training.warm(Texture())
    assert not preview.warm(preview.Base())


def test_the_generator_of_a_run_is_that_of_the_kept_weights():
    model = preview.Base()
    assert preview.warm(model)
    set_rounding(model, True)
    rng = np.random.default_rng(0)
    identity, appearance = rng.integers(-4, 5, (3, 256)), rng.integers(-4, 5, (3, 256))
    shown = base_layer.previews(identity, appearance, base_layer.load(weights.newest("base")))
    with torch.inference_mode():
        twin = model.eval().generator(*(torch.from_numpy(x).float() for x in (identity, appearance)))
    off = np.abs(twin.clamp(0, 255).permute(0, 2, 3, 1).numpy() - shown)
    assert off.max() <= 6
    assert off.mean() < 0.5


@pytest.fixture
def in_float(monkeypatch):
    """Let trunks run in float32, which is how they are trained."""
    monkeypatch.setattr(encoder, "supported", lambda: False)
    monkeypatch.setattr(encoder, "reduced", nullcontext)
    encoder._face_encoder.cache_clear()
    yield
    encoder._face_encoder.cache_clear()


@pytest.mark.usefixtures("in_float")
def test_a_run_of_previews_starts_on_the_axes_where_codes_cost_least():
    """Embeddings are turned to fall in variance, and the kept generator shows the same faces from them."""
    torch.manual_seed(0)
    model, rng = preview.Base(), np.random.default_rng(0)
    assert preview.warm(model)
    kept = weights.load(weights.newest("trunk"))
    model.trunk.load_state_dict(encoder.state(kept, "trunk."))
    blocks = rng.integers(0, 256, (300, 7, 7, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    before = encoder.face_encoder(kept.name)
    start = model.generator.start.weight.detach()[:, :256, 0, 0]
    shown = start @ torch.from_numpy(before.embed(blocks)).T / before.step
    turn = preview.straighten(model, blocks, known=True)
    assert torch.allclose(turn.T @ turn, torch.eye(256), atol=1e-4)
    with torch.inference_mode():
        embeddings = preview.unit(model.trunk, torch.from_numpy(blocks).permute(0, 3, 1, 2).float())
    moment = embeddings.T @ embeddings / len(embeddings)
    spread = moment.diagonal()
    assert (moment - spread.diag()).abs().max() < 1e-4
    assert (spread.diff() < 1e-5).all()
    again = model.generator.start.weight.detach()[:, :256, 0, 0] @ embeddings.T / IDENTITY_STEP
    assert torch.nn.functional.cosine_similarity(again, shown, 0).min() > 0.999


def test_false_match_rates_are_those_of_pictures_from_two_sources():
    people = np.random.default_rng(0).integers(-3, 4, (400, 256))
    twice, sources = people.repeat(2, 0), np.repeat(["a", "b"], 400)
    alone = freeze.verdicts(twice, np.repeat("a", 800))
    assert alone[1].tolist() == [1_000_000, 1000]  # one pair in a thousand shows one person
    assert freeze.verdicts(twice, sources)[:, 0].max() < 400_000


def test_axes_turn_principal_ones_towards_embeddings():
    rng = np.random.default_rng(0)
    basis, rest = np.split(np.linalg.qr(rng.normal(size=(512, 512)))[0], 2, axis=1)
    known = rng.normal(size=(2000, 256))
    targets = known @ basis.T + 0.1 * rng.normal(size=(2000, 256)) @ rest.T
    turn = np.linalg.qr(rng.normal(size=(256, 256)))[0]
    axes = closest_axes(*(torch.from_numpy(x).float() for x in (targets, known @ turn))).double().numpy()
    assert np.allclose(axes.T @ axes, np.eye(256), atol=1e-5)
    assert np.corrcoef((targets @ axes).ravel(), (known @ turn).ravel())[0, 1] > 0.99


def test_a_name_is_never_written_twice_with_other_bytes(tmp_path):
    freeze.write(tmp_path, "base-v1", {"x": np.arange(3)})
    freeze.write(tmp_path, "base-v1", {"x": np.arange(3)})
    freeze.write(tmp_path, "base-v2", {"x": np.arange(4)})
    with pytest.raises(FileExistsError, match="a new training is a new version"):
        freeze.write(tmp_path, "base-v1", {"x": np.arange(4)})
    listed = [line.split()[1] for line in (tmp_path / "SHA256SUMS").read_text().splitlines()]
    assert listed == ["base-v1.safetensors", "base-v2.safetensors"]


# Distillation


class Recogniser(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3 * 4 * 4, 7)
        self.last = nn.Linear(7, 5)

    def forward(self, views):
        return self.last(torch.relu(self.first(views.flatten(1))))


def test_a_teacher_tells_what_its_last_layer_sees(tmp_path):
    torch.manual_seed(0)
    recogniser, views = Recogniser(), torch.rand(6, 3, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(recogniser).save(tmp_path / "teacher.ts")
    embeddings, features = Teacher(tmp_path / "teacher.ts").answer(views)
    assert (embeddings.shape, features.shape) == ((6, 5), (6, 7))
    assert torch.allclose(recogniser.last(features), embeddings, atol=0.02)


def test_a_teacher_tells_what_lies_between_its_blocks(tmp_path):
    torch.manual_seed(0)
    blocks = [
        nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.PReLU(8), Bottleneck(8, 12, 6, 2)),
        *(Bottleneck(6, 9, 6) for _ in range(2)),
        Bottleneck(6, 12, 10, 2),
        nn.Sequential(nn.Conv2d(10, 7, 1), nn.ReLU(), nn.Conv2d(7, 4, 1), nn.PReLU(4)),
    ]
    recogniser, views = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(16, 5)), torch.rand(6, 3, 16, 16)
    found = taught_by(recogniser, views, tmp_path).maps(views)
    x = views
    for block, seen in zip(blocks, found, strict=True):
        x = block(x)
        assert seen.shape == x.shape
        assert torch.allclose(seen.float(), x, atol=0.05, rtol=0.05)


def taught_by(recogniser, views, folder):
    """Return the teacher that a recogniser makes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(recogniser.eval(), views).save(folder / "teacher.ts")
    return Teacher(folder / "teacher.ts")


def stirred(module):
    """Return a module none of whose blocks is neutral, as fresh ones with a shortcut are."""
    for block in module.modules():
        if isinstance(block, Bottleneck):
            nn.init.kaiming_normal_(block.project.weight)
    return module


@pytest.mark.parametrize("seed", range(4))
def test_a_block_that_does_what_it_is_taught_has_no_error(seed):
    """Wherever the corner lies that is compared: what was cut off beside it plays no part."""
    torch.manual_seed(seed)
    rng, trunk, x = np.random.default_rng(seed), stirred(Trunk()), torch.rand(2, 3, 112, 112) - 0.5
    with torch.inference_mode():
        for block, other in zip(trunk.blocks, stirred(Trunk()).blocks, strict=True):
            y = block(x)
            assert lesson(rng, block, x, y) < 1e-3
            assert lesson(rng, other, x, y) > 0.1
            x = y


def test_a_fresh_trunk_learns_block_by_block_and_then_as_a_whole(tmp_path, monkeypatch, clock):
    """Kept weights, or a run that has begun, go on as a whole at once."""
    torch.manual_seed(0)
    master, made = stirred(Trunk()), tmp_path / "runs" / "embedding"
    master.embed = nn.Linear(3136, 512)
    recogniser = taught_by(Whole(master), torch.rand(1, 3, 112, 112), tmp_path)
    face = {"points": faces.TEMPLATE.tolist()}
    record = {"source": "one", "size": [112, 112], "store": 0, "start": 0, "faces": [face]}
    pictures = Pictures([waves(112, 112).ravel()], [record] * 3)
    learnt = []

    def descend(self, loss, *, clip):
        learnt.append((self.folder.name, loss.item()))
        loss.backward()
        clock.now += 1

    monkeypatch.setattr(embedding, "open_sets", lambda *_: pictures)
    monkeypatch.setattr(embedding, "Teacher", lambda _: recogniser)
    monkeypatch.setattr(embedding, "BATCH", 2)
    monkeypatch.setattr(Run, "descend", descend)
    monkeypatch.setenv("FSC_WEIGHTS", str(tmp_path))
    (tmp_path / "SHA256SUMS").write_text("")
    places = {"data": tmp_path, "runs": tmp_path / "runs", "teacher": tmp_path}
    embedding.train(**places, minutes=5.5 / 60)
    assert [name for name, _ in learnt] == ["blocks"] * 3 + ["embedding"] * 3
    assert all(np.isfinite(loss) and loss > 0 for _, loss in learnt)
    axes = np.load(made / "axes.npy")
    assert np.allclose(axes.T @ axes, np.eye(256), atol=1e-4)
    blocks, whole = (load_file(folder / "checkpoint.safetensors") for folder in (made / "blocks", made))
    for key, value in whole.items():
        if key.startswith("averaged.blocks"):
            assert torch.equal(value, blocks[key])
    embedding.train(**places, minutes=6.5 / 60)
    assert [name for name, _ in learnt[6:]] == ["embedding"]
    monkeypatch.setattr(embedding, "warm", lambda _: True)
    embedding.train(**places | {"runs": tmp_path / "other"}, minutes=2 / 60)
    assert [name for name, _ in learnt[7:]] == ["embedding"] * 2


class Whole(nn.Module):
    """A trunk as a recogniser: it gives its embedding alone."""

    def __init__(self, trunk):
        super().__init__()
        self.trunk = trunk

    def forward(self, views):
        return self.trunk(views)[0]


class Nose(nn.Module):
    """Sees one cell of a view, and nothing else."""

    def forward(self, views):
        cell = views[:, :, 49:56, 70:77].mean((1, 2, 3))
        return torch.stack([cell, torch.full_like(cell, 100)], 1)


def test_regions_are_those_that_the_recogniser_sees():
    views = torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 255
    share = regions.shares(regions.sensitivity(Nose(), views))
    assert share.shape == (16, 16)
    assert share.mean() == pytest.approx(1)
    assert {tuple(place) for place in np.argwhere(share)} == {(7, 10), (7, 5)}
    assert share[7, 10] == share[7, 5]


def test_the_delay_is_the_turns_that_divide_an_error_by_what_it_costs():
    nothing, share = np.zeros((16, 16)), np.zeros((16, 16))
    share[3, 4], share[5, 6] = 7, 3
    for weight, factor in (
        (regions.weights(share, nothing), regions.SEMANTIC),
        (regions.weights(nothing, share), regions.REALISM),
    ):
        assert weight.shape == (18, 18)
        assert (weight[4, 5], weight[6, 7], weight[0, 0]) == (1 + 7 * factor, 1 + 3 * factor, 1)
    weight = np.ones((18, 18))
    weight[4, 5], weight[6, 7] = 8, 4
    late = regions.delays(weight)
    assert (late.dtype, late.shape) == (np.uint8, (18, 18))
    assert (late[4, 5], late[6, 7]) == (0, 1)
    late[[4, 6], [5, 7]] = 3
    assert (late == 3).all()
    weight[4, 5] = 9**4
    assert regions.delays(weight)[0, 0] == 4 * latents.PARTS


def test_the_discriminator_tells_what_was_decoded():
    rng = np.random.default_rng(0)
    sharp = np.array([noise(64, 64, seed) // 4 + waves(64, 64, seed) // 2 for seed in range(64)])
    smooth = np.array([cv2.blur(picture, (3, 3)) for picture in sharp])
    network = discriminator.learn(sharp[:48], smooth[:48])
    real, fake = (network(to_batch(part[48:])) for part in (sharp, smooth))
    assert real.shape == (16, 1, 8, 8)
    assert (real > 0).float().mean() > 0.8
    assert (fake < 0).float().mean() > 0.8
    faces = np.array([waves(112, 112, seed) for seed in range(2)])
    shown = discriminator.decoded(faces, rng)
    assert (shown.shape, shown.dtype) == (faces.shape, np.uint8)
    assert 0 < np.abs(shown.astype(int) - faces).mean() < 20


def test_the_linear_head_is_what_the_embeddings_follow():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 12, generator=generator)
    weight, bias = torch.randn(4, 12, generator=generator), torch.randn(4, generator=generator)
    found = linear_head(features, features @ weight.T + bias)
    assert torch.allclose(found[0], weight, atol=1e-2)
    assert torch.allclose(found[1], bias, atol=1e-2)


@given(st.integers(0, 2**32 - 1))
def test_a_blend_lies_between_its_faces(seed):
    rng = np.random.default_rng(seed)
    dark, light = np.full((112, 112, 3), 50, np.uint8), np.full((112, 112, 3), 200, np.uint8)
    blend = augment.blended(rng, dark, light)
    assert (blend.dtype, blend.shape) == (np.uint8, (112, 112, 3))
    assert 50 <= blend.min() <= blend.max() <= 200
    assert 52 < blend.mean() < 198


def test_kernels_of_eight_bits_are_loaded_within_half_a_unit(tmp_path):
    torch.manual_seed(0)
    trunk = Trunk().eval()
    freeze.write(tmp_path, "trunk-v1", freeze.named("trunk", freeze.eighths(trunk.state_dict())))
    stored = load_file(tmp_path / "trunk-v1.safetensors")
    for key, value in trunk.state_dict().items():
        if value.ndim > 1:
            kernel, unit = stored[f"trunk.{key}"], stored[f"trunk.{key}.unit"]
            assert kernel.dtype == torch.int8
            assert ((kernel * unit - value).abs() <= 0.51 * unit).all()
        elif value.is_floating_point():
            assert stored[f"trunk.{key}"].dtype == torch.float16


def test_a_new_trunk_keeps_all_else_of_the_newest_one(tmp_path, monkeypatch):
    torch.manual_seed(0)
    face = {"points": faces.TEMPLATE.tolist()}
    record = {"source": "one", "size": [112, 112], "store": 0, "start": 0, "faces": [face]}
    seen = Pictures([waves(112, 112).ravel()], [record])
    monkeypatch.setattr(freeze, "open_sets", lambda *_: seen)
    monkeypatch.setattr(freeze, "TOPS_FACES", 2)
    monkeypatch.setattr(freeze, "ALIGNED_FACES", 3)
    monkeypatch.setattr(freeze, "PARTS", 2)
    learnt = Run(tmp_path / "embedding", Trunk(), minutes=1, rate=1e-3)
    learnt.save()
    freeze.freeze_trunk(tmp_path, tmp_path, tmp_path / "weights", 99)
    stored = load_file(tmp_path / "weights" / "trunk-v99.safetensors")
    before = weights.load(weights.newest("trunk"))
    assert set(stored) == set(before.tensors)
    for key, value in before.tensors.items():
        if not key.startswith("trunk.") and key != "tops":
            assert np.array_equal(stored[key].numpy(), value)
    assert not np.array_equal(stored["tops"].numpy(), before["tops"])
    kernel = stored["trunk.embed.weight"] * stored["trunk.embed.weight.unit"]
    wanted = learnt.averaged.embed.weight
    assert (kernel.T @ kernel - wanted.T @ wanted).abs().max() < 0.01


def test_embeddings_are_turned_towards_those_of_before(monkeypatch):
    torch.manual_seed(0)
    trunk, turn = Trunk().eval(), torch.linalg.qr(torch.randn(256, 256))[0]
    views = torch.randint(0, 256, (300, 112, 112, 3), dtype=torch.uint8).numpy()
    with torch.inference_mode():
        wanted = torch.nn.functional.normalize(trunk(torch.from_numpy(views).permute(0, 3, 1, 2).float())[0])
    before = SimpleNamespace(embed=lambda near: (wanted @ turn.T).numpy())
    monkeypatch.setattr(freeze, "_views", lambda *_: (views, views))
    monkeypatch.setattr(freeze, "_spread", lambda *_: [])
    kernel = trunk.embed.weight.clone()
    freeze.align(trunk, before, Pictures([], []))
    spanned = wanted.T @ wanted
    assert torch.allclose(spanned @ turn.T @ trunk.embed.weight, spanned @ kernel, atol=1e-2)


def test_maps_reach_their_tops_on_the_faces_that_set_them():
    torch.manual_seed(0)
    trunk, faces_seen = Trunk().eval(), torch.rand(4, 3, 112, 112) * 255
    found = eight_bits.tops(trunk, faces_seen)
    assert found.shape == (48,) and (found > 0).all()
    assert torch.equal(found, eight_bits.tops(trunk, faces_seen))
    x = scaled(faces_seen)
    first = torch.relu(trunk.blocks[0][0](x))
    assert 0.99998 < (first <= found[0]).double().mean() <= 0.999995
    for block in trunk.blocks[:-1]:
        x = block(x)
    seen, within = found[-2:]
    assert 0.9999 < (x.abs() <= seen).double().mean() <= 1
    last = torch.relu(trunk.blocks[-1][0](x))
    assert 0.9999 < (last <= within).double().mean() <= 1


@pytest.mark.skipif(not eight_bits.supported(), reason="needs a processor that sums products of bytes")
def test_a_trunk_in_eight_bits_is_near_the_float_one():
    torch.manual_seed(0)
    trunk = stirred(Trunk())
    views = torch.randint(0, 256, (6, 3, 112, 112), dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    views[:3] //= 3
    tops = eight_bits.tops(trunk, views.float())
    with torch.inference_mode():
        wanted = trunk(views.float())[0]
        made = eight_bits.EightBits(trunk, tops)(views)
    assert torch.nn.functional.cosine_similarity(wanted, made).min() > 0.99
    assert (wanted - made).norm() < 0.1 * wanted.norm()


def test_sources_of_faces_are_drawn_alike():
    face = {"points": [(38, 52), (74, 52), (56, 72), (42, 92), (71, 92)]}
    records = [{"source": "one" if i else "other", "faces": [face]} for i in range(10)]
    pictures, rng = Pictures([], [*records, {"source": "third", "faces": []}]), np.random.default_rng(0)
    drawn = np.bincount([pictures.any_face(rng) for _ in range(4000)], minlength=11)
    assert 1900 < drawn[0] < 2100
    assert drawn[1:10].min() > 150
    assert drawn[10] == 0


def test_ages_are_drawn_alike_within_a_source():
    face = {"points": [(38, 52), (74, 52), (56, 72), (42, 92), (71, 92)]}
    records: list[dict[str, object]] = [
        {"source": "one", "age": 3 if i < 2 else 30, "faces": [face]} for i in range(10)
    ]
    pictures, rng = Pictures([], [*records, {"source": "other", "faces": [face]}]), np.random.default_rng(0)
    drawn = np.bincount([pictures.any_face(rng) for _ in range(4000)], minlength=11)
    assert 900 < drawn[:2].sum() < 1100 and 900 < drawn[2:10].sum() < 1100
    assert drawn[:2].min() > 400 and drawn[10] > 1900


@pytest.mark.parametrize("seed", range(6))
def test_faces_are_turned_warped_and_covered_only_in_part(seed):
    rng = np.random.default_rng(seed)
    view, other = waves(112, 112, seed), waves(112, 112, seed + 50)
    aside, moved = augment.turned(rng, view), augment.warped(rng, view)
    hidden = augment.covered(rng, view, other)
    for changed in (aside, moved, hidden):
        assert (changed.dtype, changed.shape) == (np.uint8, view.shape)
        assert (changed != view).any()
    same = (hidden == view).all(2).mean()
    assert 0.2 < same < 1
    for whole in (aside, moved):
        assert np.abs(whole.astype(int) - view).mean() < 40


def test_a_head_turns_about_its_own_axis():
    view = np.zeros((112, 112, 3), np.uint8)
    view[71:74, 55:58, 0] = view[20:23, 20:23, 1] = 255
    for seed in range(20):
        seen = augment.turned(np.random.default_rng(seed), view)
        near, far = (np.argwhere(seen[..., channel]).mean(0) for channel in range(2))
        assert np.dot(near - (72, 56), far - 21) < 0


def test_what_lies_beyond_the_picture_may_be_another_one():
    picture, behind = np.full((60, 50, 3), 200, np.uint8), np.full((90, 90, 3), 7, np.uint8)
    matrix = np.array([[1.0, 0.0, -20.0], [0.0, 1.0, -30.0]])
    view = faces.crop(picture, matrix, faces.FRAME)
    seen = [
        augment.surrounded(np.random.default_rng(seed), view, matrix, picture, behind) for seed in range(20)
    ]
    assert {int((one == 7).all(2).sum()) for one in seen} == {0, 112 * 112 - 60 * 50}
    assert all((one[30:90, 20:70] == 200).all() for one in seen)
    inside = np.array([[0.1, 0.0, 5.0], [0.0, 0.1, 5.0]])
    assert all(
        augment.surrounded(np.random.default_rng(s), view, inside, picture, behind) is view for s in range(9)
    )


def test_likeness_is_lacking_where_faces_change():
    network, pixels = likeness.Likeness(), waves(128, 128)
    pictures = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().repeat(2, 1, 1, 1)
    frames = torch.tensor([[[1.0, 0, 8], [0, 1, 8]], [[0.0, 0, 0], [0, 0, 0]]])
    depth = np.array([-20.0, -5.0])
    assert network.lacking(pictures, pictures, frames, depth).item() == pytest.approx(0, abs=1e-5)
    decoded = (pictures * 0.5).requires_grad_()
    lacking = network.lacking(decoded, pictures, frames, depth)
    lacking.backward()
    assert lacking.item() > 0.001
    assert decoded.grad[0].abs().sum() > 0
    assert decoded.grad[1].abs().sum() == 0
    assert network.lacking(decoded, pictures, 0 * frames, depth).item() == 0
