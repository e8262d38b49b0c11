"""Appearance analysis (float, encoder only) and the training twin of the integer preview generator.

wide view (3, 64, 64) -> halved (3, 32, 32) -> principal components -> appearance codes (256)
appearance codes -> principal components -> (3, 32, 32) -> doubled --------------+-> preview (3, 64, 64)
identity codes (256) + appearance codes (256) -> 4 -> 8 -> 16 -> 32 -> correction +
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facecodec.networks.embedding import EMBEDDING
from facecodec.networks.quantised import Activation, snapped

APPEARANCE = 256
APPEARANCE_TOP = 63
SMALL = 32
"""Pixels a side of the views whose principal components are coded."""
CODE_STEP = 1 / 8
"""What one unit of a code stands for at the generator's input."""


class Appearance(nn.Module):
    """What recognition throws away: principal components of a face in its surroundings, in steps."""

    def __init__(self) -> None:
        """Make an analysis that has yet to be fitted."""
        super().__init__()
        self.mean: Tensor
        self.basis: Tensor
        self.step: Tensor
        self.register_buffer("mean", torch.zeros(3 * SMALL**2))
        self.register_buffer("basis", torch.zeros(APPEARANCE, 3 * SMALL**2))
        self.register_buffer("step", torch.ones(1))

    def forward(self, views: Tensor) -> Tensor:
        """Return components (N, 256) in steps, from wide views (N, 3, 64, 64), 0..255."""
        small = F.avg_pool2d(views.float(), 2).flatten(1)
        with torch.autocast(views.device.type, enabled=False):
            components: Tensor = (small - self.mean) @ self.basis.T / self.step
        return components

    @torch.no_grad()
    def fit(self, views: Tensor, bits: float) -> None:
        """Set the components to those of views (N, 3, 64, 64), and the step to that which costs ``bits``."""
        small = F.avg_pool2d(views, 2).flatten(1)
        self.mean.copy_(small.mean(0))
        _, _, axes = torch.svd_lowrank(small - self.mean, q=APPEARANCE, niter=3)
        self.basis.copy_(axes.T)
        components = (small - self.mean) @ axes
        low, high = 1.0, 4096.0
        while high / low > 1.001:
            self.step.fill_((low * high) ** 0.5)
            codes = (components / self.step).round().clamp(-APPEARANCE_TOP, APPEARANCE_TOP)
            if entropy(codes) > bits:
                low = float(self.step)
            else:
                high = float(self.step)


def entropy(codes: Tensor) -> float:
    """Return the bits a row of integer codes (N, D) takes with an ideal table a column."""
    total = 0.0
    for column in codes.T:
        shares = torch.unique(column, return_counts=True)[1] / len(column)
        total -= float((shares * shares.log2()).sum())
    return total


class Generator(nn.Module):
    """Training twin of ``base_layer.preview``: the same layers in float."""

    def __init__(self) -> None:
        """Make the generator with fresh weights."""
        super().__init__()
        self.start = nn.Conv2d(EMBEDDING + APPEARANCE, 128 * 16, 1)
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(128, 128, 3, padding=1),
                nn.Conv2d(128, 96, 3, padding=1),
                nn.Conv2d(96, 96, 3, padding=1),
                nn.Conv2d(96, 64, 3, padding=1),
                nn.Conv2d(64, 64, 3, padding=1),
            ]
        )
        self.finish = nn.Conv2d(64, 12, 3, padding=1)
        nn.init.zeros_(self.finish.weight)
        nn.init.zeros_(self.finish.bias)  # type: ignore[arg-type]
        self.linear = nn.Conv2d(APPEARANCE, 3 * SMALL**2, 1).requires_grad_(False)
        self.activation = Activation()

    @torch.no_grad()
    def start_from(self, appearance: Appearance) -> None:
        """Set the linear path to undo a fitted appearance analysis."""
        assert self.linear.bias is not None
        self.linear.weight.copy_((appearance.basis.T * appearance.step)[:, :, None, None])
        self.linear.bias.copy_(appearance.mean)

    def forward(self, identity: Tensor, appearance: Tensor) -> Tensor:
        """Return previews (N, 3, 64, 64) in grey levels, from codes (N, 256) and (N, 256)."""
        codes = torch.cat([identity, appearance], 1)[:, :, None, None] * CODE_STEP
        x = self.activation(self.start(codes)).view(-1, 128, 4, 4)
        for index, layer in enumerate(self.layers):
            if index in (0, 1, 3):
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = self.activation(layer(x))
        correction = F.pixel_shuffle(self.finish(x), 2).float() * 64
        with torch.autocast(x.device.type, enabled=False):
            small = self.linear(appearance.float()[:, :, None, None])
        if self.activation.rounding:
            small, correction = snapped(small, 1.0), snapped(correction, 1.0)
        small = small.clamp(0, 255).view(-1, 3, SMALL, SMALL)
        doubled = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        return (snapped(doubled, 1.0) if self.activation.rounding else doubled) + correction
