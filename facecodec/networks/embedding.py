"""The trunk: an aligned face to its embedding.

face (3, 112, 112) -> stem 56 -> 28 -> 14 -> 7 -> features (64, 7, 7) -> embedding
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EMBEDDING = 256
WIDTHS = (32, 64, 128, 256)
BLOCKS = (0, 2, 4, 2)
FEATURES = 64
"""Channels of the map that the embedding is a linear function of, as in the teacher."""


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
        self.gather = nn.Sequential(convolution(inputs, FEATURES, 1), nn.PReLU(FEATURES))
        self.embed = nn.Linear(FEATURES * 7 * 7, EMBEDDING)

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Return embedding (N, 256) and the features (N, 3136) that it is a linear function of.

        ``faces`` is float (N, 3, 112, 112), RGB, 0..255.
        """
        x = (faces - 127.5) / 127.5
        for stage in self.stages:
            x = stage(x)
        features = self.gather(x).flatten(1)
        return self.embed(features), features
