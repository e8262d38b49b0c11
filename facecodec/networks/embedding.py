"""The trunk: an aligned face to its embedding, in the blocks of MobileFaceNet, which its teacher has too.

face (3, 112, 112) -> stem 28 -> bottlenecks 28 -> 14 -> 7 -> features (64, 7, 7) -> embedding

Chen et al., CCBR 2018, arXiv 1804.07573; here half as wide again within each block, and with ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EMBEDDING = 256
STEM = (128, 256)
"""Channels at 56 pixels: of the first filters, and within the bottleneck that halves their map."""
STAGES = ((128, 192, 4), (256, 384, 6), (256, 384, 2))
"""Channels of the maps of 28, 14 and 7 pixels, those within their bottlenecks, and how many there are."""
WIDENED = (512, 1024)
"""Channels within the bottlenecks that halve a map."""
LAST = 768
FEATURES = 64
"""Channels of the map that the embedding is a linear function of, as in the teacher."""


class Filter(nn.Conv2d):
    """A 3x3 filter for each channel."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        """Make the filters; they halve maps where ``stride`` is 2."""
        super().__init__(channels, channels, 3, stride, 1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map (N, C, H / stride, W / stride) of a map (N, C, H, W)."""
        if not self.training or self.stride == (1, 1):
            return super().forward(x)
        # PyTorch's gradients of strided filters in bfloat16 take four times as long as those of all pixels.
        every = F.conv2d(x, self.weight, self.bias, 1, 1, 1, self.groups)
        return every[:, :, :: self.stride[0], :: self.stride[1]]


class Bottleneck(nn.Module):
    """Expansion, a filter for each channel, projection; around a shortcut where the shape stays."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int = 1) -> None:
        """Make the block; it halves maps where ``stride`` is 2."""
        super().__init__()
        self.expand = nn.Conv2d(inputs, inner, 1)
        self.filter = Filter(inner, stride)
        self.project = nn.Conv2d(inner, outputs, 1)
        self.shortcut = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Return the map (N, outputs, H / stride, W / stride) of a map (N, inputs, H, W)."""
        y: Tensor = self.project(torch.relu_(self.filter(torch.relu_(self.expand(x)))))
        return x + y if self.shortcut else y


class Stem(nn.Sequential):
    """Pictures (N, 3, H, W), -1..1, to the first map (N, 128, H / 4, W / 4)."""

    def __init__(self) -> None:
        """Make the block."""
        first, inner = STEM
        super().__init__(
            nn.Conv2d(3, first, 3, 2, 1),
            nn.ReLU(inplace=True),
            Filter(first),
            nn.ReLU(inplace=True),
            Bottleneck(first, inner, STAGES[0][0], 2),
        )


class Head(nn.Sequential):
    """The last map (N, 256, 7, 7) to the features (N, 64, 7, 7)."""

    def __init__(self) -> None:
        """Make the block."""
        super().__init__(
            nn.Conv2d(STAGES[-1][0], LAST, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(LAST, FEATURES, 1),
            nn.PReLU(FEATURES),
        )


class Trunk(nn.Module):
    """The shared trunk with its identity head."""

    def __init__(self) -> None:
        """Make the trunk with fresh weights."""
        super().__init__()
        blocks: list[nn.Module] = [Stem()]
        for stage, (width, inner, count) in enumerate(STAGES):
            if stage:
                blocks.append(Bottleneck(STAGES[stage - 1][0], WIDENED[stage - 1], width, 2))
            blocks += [Bottleneck(width, inner, width) for _ in range(count)]
        self.blocks = nn.ModuleList([*blocks, Head()])
        """Each learns by itself first, what the teacher makes of the map before it."""
        self.embed = nn.Linear(FEATURES * 7 * 7, EMBEDDING)
        self.blocks.apply(begin)

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Return embedding (N, 256) and the features (N, 3136) that it is a linear function of.

        ``faces`` is float (N, 3, 112, 112), RGB, 0..255.
        """
        features = self.maps(faces)[-1].flatten(1)
        return self.embed(features), features

    def maps(self, faces: Tensor) -> list[Tensor]:
        """Return the map (N, C, h, w) after each block, of such faces."""
        made, x = [], scaled(faces)
        for block in self.blocks:
            x = block(x)
            made.append(x)
        return made


def begin(module: nn.Module) -> None:
    """Keep the spread of maps (He et al., ICCV 2015); blocks with a shortcut add nothing at first."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    elif isinstance(module, Bottleneck) and module.shortcut:
        nn.init.zeros_(module.project.weight)


def scaled(faces: Tensor) -> Tensor:
    """Return pictures of 0..255 as the trunk sees them, -1..1."""
    return (faces - 127.5) / 127.5
