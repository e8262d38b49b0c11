"""Texture: the float analysis of the encoder and the training twins of the integer decoder.

    picture, prediction -> g_a -> y (1/16) -> h_a -> z (1/64)
    z_hat, prediction   -> prior -> mean and scale of y
    part of y_hat       -> review -> scale of y, looked at again
    y_hat, prediction   -> linear -> rough picture
    y_hat, rough picture, prediction, depth -> g_s -> what the rough picture lacks

Both transforms are a linear one of 16x16 blocks of the difference, begun as the Karhunen-Loeve transform,
plus a network's part: in g_s a filter that sees what the blocks have made, and how far the stream was cut.

The prediction enters the prior and g_s through one ``Context``: the base layer is the first hyperprior.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facecodec.networks.quantised import STEP, Activation, snapped

LATENT = 320
HYPER = 64
SCALES = 48
SCALE_LOW, SCALE_HIGH = 0.12, 320.0
SURPRISE_STEP, SURPRISE_TOP = 1 / 32, 192
SCALE_UNITS = 4
LATENT_GAIN = 16.0
"""y is in units of the finest quantisation step; the networks see y / 16."""
LATENT_STEP = 1 / 8
LATENT_TOP = 8191
BLOCK = 16
WIDER = 2.0
"""How much larger the steps of the first latent are in weight files than in training."""
LINEAR_GAIN = 4.0
"""Grey levels, in an orthonormal transform of blocks, that one finest step stands for."""
HYPER_TOP = 15
DEPTHS_PER_OCTAVE = 12
DEPTH_TOP = 80
"""Depths count twelfths of an octave of the quantisation step, from 0 at the finest step."""

UNITS: dict[str, dict[str, float]] = {
    "prior.from_64": {"input_step": 1 / 4},
    "prior.mean": {"output_step": LATENT_STEP / LATENT_GAIN},
    "prior.scale": {"output_step": 1 / 16},
    "review.change": {"output_step": 1 / 16},
    "synthesis.enter": {"input_step": LATENT_STEP / LATENT_GAIN},
    "synthesis.linear": {"input_step": LATENT_STEP * LINEAR_GAIN, "output_step": 1.0},
}
"""What one integer stands for at the ends of the frozen layers, where it is not ``quantised.STEP``."""


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, gain: float = 1.0) -> nn.Conv2d:
    """Return a convolution with He initialisation times ``gain`` and no bias to start with."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    with torch.no_grad():
        layer.weight *= gain
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut, in float or as the twin of integer layers."""

    def __init__(self, width: int, activation: nn.Module) -> None:
        """Make the block for ``width`` channels with this activation after both convolutions."""
        super().__init__()
        self.first = conv(width, width)
        self.second = conv(width, width, gain=0.3)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        result: Tensor = self.activation(x + self.second(self.activation(self.first(x))))
        return result


class Analysis(nn.Module):
    """g_a and h_a: float, encoder only."""

    def __init__(self) -> None:
        """Make the analysis with fresh weights."""
        super().__init__()
        relu = nn.ReLU(inplace=True)
        self.g_a = nn.Sequential(
            conv(96, 64),
            relu,
            Residual(64, relu),
            conv(64, 112, stride=2),
            relu,
            Residual(112, relu),
            conv(112, 160, stride=2),
            relu,
            Residual(160, relu),
            Residual(160, relu),
            conv(160, LATENT, 1, gain=0.02),
        )
        self.h_a = nn.Sequential(
            conv(LATENT, 96), relu, conv(96, 64, stride=2), relu, conv(64, HYPER, stride=2)
        )
        self.linear = nn.Conv2d(3 * BLOCK**2, LATENT, 1, bias=False)
        self.gain: Tensor
        self.register_buffer("gain", torch.ones(LATENT, 1, 1))

    def forward(self, picture: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
        """Return y (N, 320, H/16, W/16) and z (N, 64, H/64, W/64) of pictures (N, 3, H, W), 0..255."""
        x = F.pixel_unshuffle(torch.cat([picture - prediction, prediction - 128], 1) / 64, 4)
        with torch.autocast(picture.device.type, enabled=False):
            y = self.linear(F.pixel_unshuffle(picture - prediction, BLOCK) / LINEAR_GAIN)
        y = y + self.g_a(x).float() * LATENT_GAIN
        return y * self.gain, self.h_a(torch.asinh(y / 2)).float() * 2


class Context(nn.Module):
    """What the decoder knows of the picture from its prediction, at 1/8 and 1/16 (twin)."""

    def __init__(self) -> None:
        """Make the layers with fresh weights."""
        super().__init__()
        self.to_8 = conv(48, 48, stride=2, gain=0.5)
        self.to_16 = conv(48, 96, stride=2)
        self.activation = Activation()

    def forward(self, prediction: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, 48, H/8, W/8) and (N, 96, H/16, W/16) of the prediction, 0..255."""
        at_8 = self.activation(self.to_8(F.pixel_unshuffle(prediction / 64, 4)))
        return at_8, self.activation(self.to_16(at_8))


class Prior(nn.Module):
    """h_s: the mean and scale of every latent from z_hat and the context (twin)."""

    def __init__(self) -> None:
        """Make the layers with fresh weights."""
        super().__init__()
        self.from_64 = conv(HYPER, 96, 1)
        self.from_32 = conv(96, 96)
        self.from_16 = conv(96, 96)
        self.mix = conv(192, 160)
        self.mean = conv(160, LATENT, 1, gain=0.02)
        self.scale = conv(160, LATENT, 1, gain=0.02)
        self.activation = Activation()
        self.refine = Residual(160, self.activation)
        nn.init.constant_(self.scale.bias, 1.5)  # type: ignore[arg-type]

    def forward(self, z_hat: Tensor, at_16: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of y, in steps, and the scale index 0..47, both (N, 320, H/16, W/16)."""
        x = self.activation(self.from_64(z_hat / 4))
        x = self.activation(self.from_32(F.interpolate(x, scale_factor=2, mode="nearest")))
        x = self.activation(self.from_16(F.interpolate(x, scale_factor=2, mode="nearest")))
        x = self.refine(self.activation(self.mix(torch.cat([x, at_16], 1))))
        mean = self.mean(x).float() * LATENT_GAIN
        index = self.scale(x).float() * 16
        if self.activation.rounding:
            mean, index = snapped(mean, LATENT_STEP), snapped(index, 1.0)
        top = LATENT_TOP * LATENT_STEP
        return mean.clamp(-top, top), index.clamp(0, SCALES - 1)


class Review(nn.Module):
    """The scale of every latent once more, from what is known of all of them (twin).

    Context-based rate reduction (Jeon et al., CVPR 2023), for scales.
    """

    def __init__(self) -> None:
        """Make layers that change no scale yet."""
        super().__init__()
        self.activation = Activation()
        self.enter = conv(2 * LATENT + 1, 128, 1)
        self.at_16 = nn.ModuleList([Residual(128, self.activation), Residual(128, self.activation)])
        self.change = conv(128, LATENT, 1, gain=0.0)

    def forward(self, surprise: Tensor, index: Tensor, gone: Tensor) -> Tensor:
        """Return the scale index 0..47 (N, 320, h, w).

        ``surprise`` is that of the nodes reached, 0..192, and ``index`` that of the prior, of the same shape;
        ``gone`` (N, 1, h, w) counts the turns gone by.
        """
        x = self.activation(self.enter(torch.cat([surprise, SCALE_UNITS * index, gone], 1) * STEP))
        change = self.change(self.at_16[1](self.at_16[0](x))).float() * 16
        if self.activation.rounding:
            change = snapped(change, 1.0)
        found: Tensor = (index + change).clamp(0, SCALES - 1)
        return found


class Synthesis(nn.Module):
    """g_s: the picture from y_hat, the prediction and its context (twin)."""

    def __init__(self) -> None:
        """Make the layers with fresh weights."""
        super().__init__()
        act = self.activation = Activation()
        self.linear = nn.Conv2d(LATENT, 3 * BLOCK**2, 1, bias=False)
        self.enter = conv(LATENT, 144, 1)
        self.at_16 = nn.ModuleList([conv(144 + 96 + 1, 144), Residual(144, act), Residual(144, act)])
        self.up_8 = conv(144, 4 * 96, 1)
        self.at_8 = nn.ModuleList([conv(96 + 48, 96), Residual(96, act)])
        self.up_4 = conv(96, 4 * 48, 1)
        self.at_4 = nn.ModuleList([conv(48 + 96 + 1, 64), Residual(64, act)])
        self.finish = conv(64, 48, gain=0.02)

    def forward(
        self, y_hat: Tensor, prediction: Tensor, at_8: Tensor, at_16: Tensor, depth: Tensor
    ) -> Tensor:
        """Return the picture (N, 3, H, W) in grey levels; ``depth`` (N, 1, H/16, W/16) is 0..80."""
        act = self.activation
        with torch.autocast(y_hat.device.type, enabled=False):
            linear = F.pixel_shuffle(self.linear(y_hat * LINEAR_GAIN), BLOCK)
        rough = prediction + (snapped(linear, 1.0) if act.rounding else linear)
        depth = depth * STEP
        x = act(self.enter(y_hat / LATENT_GAIN))
        x = self.at_16[2](self.at_16[1](act(self.at_16[0](torch.cat([x, at_16, depth], 1)))))
        x = F.pixel_shuffle(act(self.up_8(x)), 2)
        x = self.at_8[1](act(self.at_8[0](torch.cat([x, at_8], 1))))
        x = F.pixel_shuffle(act(self.up_4(x)), 2)
        seen = F.pixel_unshuffle(torch.cat([rough.clamp(0, 255), prediction], 1) * STEP, 4)
        x = torch.cat([x, seen, F.interpolate(depth, scale_factor=4, mode="nearest")], 1)
        x = self.at_4[1](act(self.at_4[0](x)))
        lacking = F.pixel_shuffle(self.finish(x), 4).float() * 64
        return rough + (snapped(lacking, 1.0) if act.rounding else lacking)


class Texture(nn.Module):
    """Everything of the enhancement layer, as trained."""

    def __init__(self) -> None:
        """Make all networks with fresh weights; ``hyper_scale`` is the log-scale of each channel of z."""
        super().__init__()
        self.analysis = Analysis()
        self.context = Context()
        self.prior = Prior()
        self.review = Review()
        self.synthesis = Synthesis()
        self.hyper_scale = nn.Parameter(torch.zeros(HYPER))

    @torch.no_grad()
    def start_from(self, covariance: Tensor) -> None:
        """Start both transforms from the Karhunen-Loeve transform of blocks of this covariance (768, 768).

        The prior starts from its variances; networks start as if the latents had unit variance.
        """
        variances, vectors = torch.linalg.eigh(covariance.double())
        basis = vectors.flip(1)[:, :LATENT].float()
        sigma = (variances.flip(0)[:LATENT].sqrt() / LINEAR_GAIN).float().clamp_min(SCALE_LOW)
        self.analysis.linear.weight.copy_(basis.T[:, :, None, None])
        self.synthesis.linear.weight.copy_(basis[:, :, None, None])
        self.synthesis.enter.weight *= (LATENT_GAIN / sigma)[None, :, None, None]
        index = torch.log(sigma / SCALE_LOW) / math.log(SCALE_HIGH / SCALE_LOW) * (SCALES - 1)
        assert self.prior.scale.bias is not None
        self.prior.scale.bias.copy_(index / 16)

    @torch.no_grad()
    def widen(self, factor: float) -> None:
        """Code the mean of blocks, the first latent, in steps larger by a factor: its tree reaches farther.

        A background may be as far from its prediction as black from white.
        """
        self.analysis.gain[0] /= factor
        for layer in (self.prior.mean, self.synthesis.enter, self.synthesis.linear):
            weight = layer.weight[0] if layer is self.prior.mean else layer.weight[:, 0]
            weight *= 1 / factor if layer is self.prior.mean else factor
        assert self.prior.mean.bias is not None and self.prior.scale.bias is not None
        self.prior.mean.bias[0] /= factor
        self.prior.scale.bias[0] -= math.log(factor) / math.log(SCALE_HIGH / SCALE_LOW) * (SCALES - 1) / 16

    def forward(self, picture: Tensor, prediction: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return the decoded picture (N, 3, H, W) and the bits of each picture (N,).

        ``step`` (N,) is the quantisation step of each picture in units of the finest one: how far the
        embedded stream is cut.  Bits are the entropies under the prior; gradients pass rounding straight.
        """
        y, z = self.analysis(picture, prediction)
        noisy = z + torch.rand_like(z) - 0.5 if self.training else z.round()
        bits = interval_bits(noisy, self.hyper_scale.exp()[None, :, None, None], torch.ones_like(z)).sum(
            (1, 2, 3)
        )
        z_hat = snapped(z, 1.0).clamp(-HYPER_TOP, HYPER_TOP)
        at_8, at_16 = self.context(prediction)
        mean, index = self.prior(z_hat, at_16)
        sigma = scale_of(index)
        wide = step[:, None, None, None]
        offset = y - mean
        cell = torch.round(offset.detach() / wide) * wide
        soft = offset + (torch.rand_like(y) - 0.5) * wide if self.training else cell
        bits = bits + interval_bits(soft, sigma, wide).sum((1, 2, 3))
        centre = conditional_mean(cell, sigma.detach(), wide)
        y_hat = y + (mean.detach() + centre - y).detach()
        top = LATENT_TOP * LATENT_STEP
        depth = depth_of(wide).expand(-1, -1, *y.shape[2:])
        return self.synthesis(y_hat.clamp(-top, top), prediction, at_8, at_16, depth), bits


def depth_of(step: Tensor) -> Tensor:
    """Return the depth, a whole number 0..80, that stands for a quantisation step."""
    return torch.round(DEPTHS_PER_OCTAVE * torch.log2(step)).clamp(0, DEPTH_TOP)


def scale_of(index: Tensor) -> Tensor:
    """Return the standard deviation that a scale index stands for, in steps."""
    return SCALE_LOW * torch.exp(index * (math.log(SCALE_HIGH / SCALE_LOW) / (SCALES - 1)))


def interval_bits(value: Tensor, sigma: Tensor, width: Tensor) -> Tensor:
    """Return the bits of an interval of ``width`` around ``value`` under a normal of scale ``sigma``."""
    magnitude = value.abs()
    upper = torch.special.ndtr((width / 2 - magnitude) / sigma)
    lower = torch.special.ndtr((-width / 2 - magnitude) / sigma)
    return -torch.log2((upper - lower).clamp_min(1e-7))


def conditional_mean(cell: Tensor, sigma: Tensor, width: Tensor) -> Tensor:
    """Return the mean of a normal of scale ``sigma`` within ``width`` around ``cell``; far out, ``cell``."""
    low, high = (cell - width / 2) / sigma, (cell + width / 2) / sigma
    mass = torch.special.ndtr(-low.abs().minimum(high.abs())) - torch.special.ndtr(
        -low.abs().maximum(high.abs())
    )
    density = (torch.exp(-low.square() / 2) - torch.exp(-high.square() / 2)) / math.sqrt(2 * math.pi)
    mean = sigma * density / mass.clamp_min(1e-7)
    return torch.where(cell == 0, torch.zeros_like(cell), torch.where(mass > 1e-6, mean, cell))
