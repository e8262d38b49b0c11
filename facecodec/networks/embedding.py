"""The trunk: an aligned face to an embedding and to the features that reconstruction shares.

face (3, 112, 112) -> stem 56 -> 28 -> 14 -> 7 -> pooled -> embedding
                                         \\_______\\-> shared features for the appearance code
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EMBEDDING = 256
WIDTHS = (32, 64, 128, 256)
BLOCKS = (0, 2, 4, 2)


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution and batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        """Make the block for ``width`` channels."""
        super().__init__()
        self.first = convolution(width, width)
        self.second = convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return torch.relu_(self.second(torch.relu_(self.first(x))) + x)


class Trunk(nn.Module):
    """The shared trunk with its identity head."""

    def __init__(self) -> None:
        """Make the trunk with fresh weights."""
        super().__init__()
        stages, inputs = [], 3
        for width, blocks in zip(WIDTHS, BLOCKS, strict=True):
            stages.append(
                nn.Sequential(
                    convolution(inputs, width, stride=2),
                    nn.ReLU(inplace=True),
                    *(Residual(width) for _ in range(blocks)),
                )
            )
            inputs = width
        self.stages = nn.ModuleList(stages)
        self.expand = nn.Sequential(convolution(inputs, 2 * inputs, 1), nn.ReLU(inplace=True))
        self.pool = nn.Parameter(torch.full((2 * inputs, 7, 7), 1 / 49))
        self.normalise = nn.BatchNorm1d(2 * inputs)
        self.embed = nn.Linear(2 * inputs, EMBEDDING)

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Return embedding (N, 256) and shared features (N, 256, 7, 7).

        ``faces`` is float (N, 3, 112, 112), RGB, 0..255.
        """
        x = (faces - 127.5) / 127.5
        for stage in self.stages:
            x = stage(x)
        pooled = (self.expand(x) * self.pool).sum((2, 3))
        return self.embed(self.normalise(pooled)), x
