"""A neural codec to be compared with: a mean-scale hyperprior for all rates, in float.

picture -> g_a, gain -> latent -> h_a -> hyper-latent -> h_s -> mean and scale of each latent; latent -> g_s.
Minnen, Balle, Toderici: Joint autoregressive and hierarchical priors for learned image compression, NeurIPS
2018, without the autoregressive part; gains for several rates: Cui et al., Asymmetric gained deep image
compression with continuous rate adaptation, CVPR 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FINE, WIDTH = 64, 128
"""Channels at half of the size of pictures, and of smaller maps."""
LATENTS = 192
RATES = 6
"""How many gains there are; those of rates between are interpolated."""
STRIDE = 64
"""Sides of pictures are multiples of it."""
LEAST_SCALE = 0.11
TOP = 255
"""Of the magnitude of coded integers."""
PIXEL = 64.0
"""Grey levels that networks see as 1."""


class Normalised(nn.Module):
    """Generalised divisive normalisation, or its inverse, without powers (Johnston et al., 1912.08771)."""

    def __init__(self, channels: int, *, inverse: bool = False) -> None:
        """Make the layer, which at first normalises a channel mostly by itself."""
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(0.3 * torch.eye(channels) + 0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        weight = self.gamma.square()[:, :, None, None]
        norm = F.conv2d(x.abs(), weight, self.beta.square() + 1e-3)
        return x * norm if self.inverse else x / norm


def down(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 5x5 convolution that halves a map."""
    return nn.Conv2d(inputs, outputs, 5, 2, 2)


def up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """Return a 5x5 convolution that doubles a map."""
    return nn.ConvTranspose2d(inputs, outputs, 5, 2, 2, 1)


class Hyperprior(nn.Module):
    """The networks of the codec, as trained."""

    def __init__(self) -> None:
        """Make all networks with fresh weights."""
        super().__init__()
        f, n, m = FINE, WIDTH, LATENTS
        self.g_a = nn.Sequential(
            down(3, f), Normalised(f), down(f, n), Normalised(n), down(n, n), Normalised(n), down(n, m)
        )
        self.g_s = nn.Sequential(
            *(up(m, n), Normalised(n, inverse=True), up(n, n), Normalised(n, inverse=True)),
            *(up(n, f), Normalised(f, inverse=True), up(f, 3)),
        )
        self.h_a = nn.Sequential(
            nn.Conv2d(m, n, 3, 1, 1), nn.LeakyReLU(), down(n, n), nn.LeakyReLU(), down(n, n)
        )
        self.h_s = nn.Sequential(
            *(up(n, m), nn.LeakyReLU(), up(m, m * 3 // 2), nn.LeakyReLU()),
            nn.Conv2d(m * 3 // 2, 2 * m, 3, 1, 1),
        )
        self.gain = nn.Parameter(torch.linspace(-1, 1.5, RATES)[:, None].repeat(1, m))
        self.back = nn.Parameter(-self.gain.detach().clone())
        self.hyper_mean = nn.Parameter(torch.zeros(n))
        self.hyper_scale = nn.Parameter(torch.zeros(n))

    def gains(self, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Return what latents are multiplied by before and after they are coded, (N, M, 1, 1) each.

        ``rate`` (N,) is 0..RATES - 1, and may lie between.
        """
        low = rate.floor().long().clamp(0, RATES - 2)
        share = (rate - low)[:, None]
        before, after = (
            torch.lerp(logs[low], logs[low + 1], share).exp()[:, :, None, None]
            for logs in (self.gain, self.back)
        )
        return before, after

    def analysed(self, picture: Tensor, gain: Tensor) -> Tensor:
        """Return the latents (N, M, H/16, W/16) of pictures (N, 3, H, W), 0..255."""
        latent: Tensor = self.g_a((picture - 127.5) / PIXEL)
        return latent.float() * gain

    def synthesised(self, latent: Tensor, back: Tensor) -> Tensor:
        """Return the pictures (N, 3, H, W) that latents make, in grey levels."""
        picture: Tensor = self.g_s(latent * back)
        return picture.float() * PIXEL + 127.5

    def hyper(self) -> tuple[Tensor, Tensor]:
        """Return mean and scale of each channel of the hyper-latent, (N, 1, 1)."""
        return self.hyper_mean[:, None, None], scales(self.hyper_scale)[:, None, None]

    def expected(self, hyper: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale of each latent (N, M, H/16, W/16), from the hyper-latent."""
        mean, scale = self.h_s(hyper).float().chunk(2, 1)
        return mean, scales(scale)


def scales(told: Tensor) -> Tensor:
    """Return positive scales from what networks tell."""
    return F.softplus(told) + LEAST_SCALE


def bits(off: Tensor, scale: Tensor) -> Tensor:
    """Return the bits of integers that are ``off`` their expected values, normally distributed."""
    size, narrow = off.abs(), 1 / (scale * 2**0.5)
    chance = torch.erfc((size - 0.5) * narrow) - torch.erfc((size + 0.5) * narrow)
    return -torch.log2(chance.clamp_min(0) / 2 + 2.0**-24)
