"""The neural codec that ours is compared with: its training, and its files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import samples
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from facecodec.errors import CorruptError, FscError
from facecodec.evaluation import neural, peers
from facecodec.networks.hyperprior import LATENTS, LEAST_SCALE, RATES, Hyperprior, bits
from facecodec.training import hyperprior, run


def wild(seed: int = 0) -> Hyperprior:
    """Return networks whose latents are large enough to be coded, and expected about as large."""
    torch.manual_seed(seed)
    model = Hyperprior()
    with torch.no_grad():
        for layer in (model.g_a[-1], model.h_a[-1]):
            layer.weight *= 20
        model.hyper_scale += 2
        model.h_s[-1].bias[LATENTS:] += 2
    return model.eval()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    averaged = {f"averaged.{key}": value for key, value in wild().state_dict().items()}
    save_file(averaged | {"model.gain": torch.zeros(1)}, path, {"step": "7", "seconds": "1"})
    neural._model.cache_clear()
    return path


# networks


@given(st.floats(-3, 3), st.floats(LEAST_SCALE, 20))
def test_chances_of_all_integers_add_up_to_one(mean: float, scale: float) -> None:
    off = torch.arange(-200, 201) - torch.tensor(mean)
    total = torch.exp2(-bits(off, torch.tensor(scale))).sum()
    assert float(total) == pytest.approx(1, abs=1e-3)


def test_gains_are_those_of_each_rate_and_lie_between() -> None:
    model = wild()
    with torch.no_grad():
        before, after = model.gains(torch.tensor([0.0, 1.0, 0.5, RATES - 1]))
        assert torch.allclose(before[:, :, 0, 0].log()[[0, 1, 3]], model.gain[[0, 1, RATES - 1]], atol=1e-5)
        assert torch.allclose(before[2].square(), before[0] * before[1])
        assert torch.allclose(before * after, torch.ones(()), atol=1e-5)


# training


def test_rounding_keeps_the_gradient() -> None:
    x = torch.tensor([0.4, 0.6, -1.2], requires_grad=True)
    (y := hyperprior.rounded(x)).sum().backward()
    assert y.tolist() == [0, 1, -1] and x.grad is not None and x.grad.tolist() == [1, 1, 1]


class Draws:
    """Crops that are all alike, as ``Draw`` draws them."""

    def __init__(self, *_: object) -> None:
        crop = samples.portrait(hyperprior.SIDE).transpose(2, 0, 1).copy()
        self.pictures = torch.from_numpy(crop).float().repeat(hyperprior.BATCH, 1, 1, 1)

    def batch(self) -> tuple[torch.Tensor, None, None]:
        return self.pictures, None, None


def test_a_run_learns_and_its_checkpoint_is_a_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: setattr(clock, "now", clock.now + 1) or clock.now
    monkeypatch.setattr(run, "time", clock)
    monkeypatch.setattr(hyperprior, "Draw", Draws)
    monkeypatch.setattr(hyperprior, "BATCH", 2)
    monkeypatch.setattr(hyperprior, "SIDE", 64)
    monkeypatch.setattr(hyperprior, "LOG_STEPS", 2)
    hyperprior.train(data=tmp_path, runs=tmp_path, minutes=0.2)
    log = (tmp_path / "hyperprior" / "log.jsonl").read_text().splitlines()
    assert len(log) > 2 and log[0] != log[-1]
    codec = neural.neural(tmp_path / "hyperprior" / "checkpoint.safetensors")
    assert codec.steps >= 6
    image = Image.fromarray(samples.portrait(64))
    assert codec.decode(codec.encode(image, 0)).size == (64, 64)


# files


@pytest.mark.parametrize(("width", "height", "setting"), [(64, 128, 0), (70, 41, 11), (1, 16, 24)])
def test_a_file_holds_the_rounded_latents(checkpoint: Path, width: int, height: int, setting: int) -> None:
    codec, model = neural.neural(checkpoint), wild()
    pixels = samples.noise(height, width)
    data = codec.encode(Image.fromarray(pixels), setting)
    with torch.no_grad():
        picture = neural._padded(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())
        gain, back = model.gains(torch.tensor([setting / neural.STEPS]))
        latent = model.analysed(picture, gain)
        middle, spread = model.hyper()
        hyper = (model.h_a(latent) - middle).round()
        mean, scale = model.expected(hyper + middle)
        coded = (latent - mean).round()
        size = bits(hyper, spread).sum() + bits(coded, scale).sum()
        expected = model.synthesised(coded + mean, back)[0, :, :height, :width].round().clamp(0, 255)
    assert coded.abs().max() > 1
    assert len(data) == pytest.approx(float(size) / 8, rel=0.02, abs=12)
    decoded = codec.decode(data)
    assert decoded.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(decoded), expected.permute(1, 2, 0).byte().numpy())


def test_more_bytes_by_each_setting_of_the_sweep(checkpoint: Path) -> None:
    codec = neural.neural(checkpoint)
    image = Image.fromarray(samples.noise(64, 64)).convert("L")
    sizes = [len(codec.encode(image, setting)) for setting in codec.sweep]
    assert sizes == sorted(set(sizes)) and set(codec.sweep) <= set(codec.ladder)


def test_a_damaged_file_is_refused(checkpoint: Path) -> None:
    codec = neural.neural(checkpoint)
    data = codec.encode(Image.fromarray(samples.noise(64, 64)), 20)
    with pytest.raises(CorruptError):
        codec.decode(data + bytes(8))


def test_chosen_by_its_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    (codec,) = peers.chosen([], checkpoints=[checkpoint])
    assert (codec.name, codec) == ("hyperprior", neural.Neural(checkpoint, 7))
    with pytest.raises(FscError, match="no checkpoint"):
        peers.chosen([], checkpoints=[tmp_path / "none"])
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(FscError, match="no checkpoint"):
        peers.chosen([], checkpoints=[tmp_path / "other.safetensors"])
