"""Appearance analysis (float, encoder only) and the training twin of the integer preview generator.

wide view (3, 64, 64) -> 32 -> 16 -> 8 -> 4 --+
trunk features (256, 7, 7) -> 4 --------------+-> appearance (128)
identity codes (256) + appearance codes (128) -> 4 -> 8 -> 16 -> 32 -> preview (3, 64, 64)
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facecodec.networks.embedding import EMBEDDING, WIDTHS, convolution
from facecodec.networks.quantised import Activation

APPEARANCE = 128
CODE_STEP = 1 / 8
"""What one unit of a code stands for at the generator's input."""


class AppearanceAnalysis(nn.Module):
    """What recognition throws away: the appearance code of a face in its surroundings."""

    def __init__(self) -> None:
        """Make the analysis with fresh weights."""
        super().__init__()
        widths = (3, 32, 64, 96, 128)
        self.view = nn.Sequential(
            *(nn.Sequential(convolution(a, b, stride=2), nn.ReLU(inplace=True)) for a, b in pairwise(widths))
        )
        self.shared = nn.Conv2d(WIDTHS[-1], 64, 1)
        self.mix = nn.Linear((128 + 64) * 16, 256)
        self.code = nn.Linear(256, APPEARANCE)

    def forward(self, views: Tensor, features: Tensor) -> Tensor:
        """Return appearance (N, 128).

        From wide views (N, 3, 64, 64), 0..255, and trunk features (N, 256, 7, 7).
        """
        shared = F.adaptive_avg_pool2d(self.shared(features), 4)
        both = torch.cat([self.view((views - 127.5) / 127.5), shared], 1)
        return self.code(torch.relu(self.mix(both.flatten(1))))


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
        self.activation = Activation()

    def forward(self, identity: Tensor, appearance: Tensor) -> Tensor:
        """Return previews (N, 3, 64, 64) as pixel values / 64 - 2, from codes (N, 256) and (N, 128)."""
        codes = torch.cat([identity, appearance], 1)[:, :, None, None] * CODE_STEP
        x = self.activation(self.start(codes)).view(-1, 128, 4, 4)
        for index, layer in enumerate(self.layers):
            if index in (0, 1, 3):
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = self.activation(layer(x))
        return F.pixel_shuffle(self.finish(x), 2)
