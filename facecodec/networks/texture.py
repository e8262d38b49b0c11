"""The training twins of the texture networks of the integer decoder.

what is known of latents, prediction -> trits -> how likely 0 is, and how trits lean, of every latent
rough picture, prediction, turns gone -> filter -> what the rough picture lacks

The prediction enters the first through ``around``: the base layer is the hyperprior.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facecodec.exact import BYTE_TOP
from facecodec.latents import LEANS, OFFSETS, PLANES, ZEROS
from facecodec.networks.quantised import STEP, Activation, snapped
from facecodec.texture import REFINEMENTS
from facecodec.wavelet import BANDS, LEVELS

AROUND = (32, 64)
WIDTHS = {2: 24, 4: 48, 8: 64, 16: 96}
"""Channels of the grids of levels, by their pixels."""
DOWN = {2: 32, 4: 48, 8: 64}
UP = {8: 48, 4: 32, 2: 16}
FILTER = {2: 64, 4: 128, 8: 192, 16: 256}
FILTER_UP = {8: 128, 4: 128, 2: 64}
HINTS = {2: 16, 4: 32, 8: 32, 16: 32}
"""Channels of what the filter tells the networks of trits, coarsest last."""
ZERO_LOW, ZERO_STEP = -3.0, 0.25
LEAN_STEP = 0.5
"""Logits that tables stand for."""
FLOOR = 2.0**-14
CHANGE = 32.0
"""How many tables an output of 1 is away."""
LACKING = 16.0
"""Grey levels that an output of 1 of the filter stands for."""

UNITS: dict[str, dict[str, float]] = {
    **{f"trits.tell.{grid}": {"output_step": 1 / CHANGE} for grid in WIDTHS},
    "filter.finish": {"output_step": 1 / 4 / LACKING},
}
"""What one integer stands for at the ends of the frozen layers, where it is not ``quantised.STEP``."""


def bands(grid: int) -> int:
    """Return how many bands the level of a grid, by its pixels, has."""
    return BANDS[LEVELS - grid.bit_length() + 1]


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


def doubled(x: Tensor) -> Tensor:
    """Repeat each value in a 2x2 block."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


class Around(nn.Module):
    """What the prediction tells, at 1/8 and 1/16 (twin)."""

    def __init__(self) -> None:
        """Make the layers with fresh weights."""
        super().__init__()
        self.to_8 = conv(48, AROUND[0], stride=2, gain=0.5)
        self.to_16 = conv(AROUND[0], AROUND[1], stride=2)
        self.activation = Activation(BYTE_TOP)

    def forward(self, prediction: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, 32, H/8, W/8) and (N, 64, H/16, W/16) of the prediction, 0..255."""
        at_8 = self.activation(self.to_8(F.pixel_unshuffle(prediction * STEP, 4)))
        return at_8, self.activation(self.to_16(at_8))


class Trits(nn.Module):
    """How the tables of trits differ from the first ones: up from fine to coarse, and back (twin).

    The contexts of EBCOT (Taubman, IEEE Trans. Image Processing 2000), learned.
    """

    def __init__(self) -> None:
        """Make layers that change no table yet."""
        super().__init__()
        act = self.activation = Activation(BYTE_TOP)
        others = {2: 0, 4: DOWN[2], 8: DOWN[4] + AROUND[0], 16: DOWN[8] + AROUND[1]}
        self.enter = nn.ModuleDict(
            {
                str(grid): conv(3 * bands(grid) + 1 + HINTS[grid] + others[grid], width)
                for grid, width in WIDTHS.items()
            }
        )
        self.down = nn.ModuleDict(
            {str(grid): conv(WIDTHS[grid], width, stride=2) for grid, width in DOWN.items()}
        )
        self.at_16 = nn.ModuleList([Residual(WIDTHS[16], act), Residual(WIDTHS[16], act)])
        self.at_8 = Residual(WIDTHS[8], act)
        self.up = nn.ModuleDict({str(grid): conv(WIDTHS[2 * grid], width, 1) for grid, width in UP.items()})
        self.merge = nn.ModuleDict(
            {str(grid): conv(WIDTHS[grid] + width, WIDTHS[grid]) for grid, width in UP.items()}
        )
        self.tell = nn.ModuleDict(
            {str(grid): conv(width, 2 * bands(grid), 1, gain=0.0) for grid, width in WIDTHS.items()}
        )

    def forward(self, views: list[Tensor], hints: list[Tensor], at_8: Tensor, at_16: Tensor) -> list[Tensor]:
        """Return the changes (N, 2 C, h, w) of the tables of each level, coarsest first, in tables.

        ``views`` are what ``latents.seen`` makes of each level, ``hints`` what the filter tells of them.
        """
        act = self.activation
        entered: dict[int, Tensor] = {}
        below: list[Tensor] = []
        for grid, view, hint, others in zip(
            WIDTHS, views[::-1], hints[::-1], ([], [], [at_8], [at_16]), strict=True
        ):
            seen = torch.cat([view * STEP, hint, *below, *others], 1)
            entered[grid] = act(self.enter[str(grid)](seen))
            if grid < 16:
                below = [act(self.down[str(grid)](entered[grid]))]
        x = self.at_16[1](self.at_16[0](entered[16]))
        changes = [self.tell["16"](x)]
        for grid in (8, 4, 2):
            above = doubled(act(self.up[str(grid)](x)))
            x = act(self.merge[str(grid)](torch.cat([entered[grid], above], 1)))
            if grid == 8:
                x = self.at_8(x)
            changes.append(self.tell[str(grid)](x))
        changes = [change.float() * CHANGE for change in changes]
        if act.rounding:
            changes = [snapped(change, 1.0) for change in changes]
        return changes


class Filter(nn.Module):
    """What a rough picture lacks, from the prediction and how early its stream was cut (twin)."""

    def __init__(self) -> None:
        """Make the layers with fresh weights."""
        super().__init__()
        act = self.activation = Activation(BYTE_TOP)
        self.enter = conv(26, FILTER[2])
        self.down = nn.ModuleDict(
            {str(grid): conv(FILTER[grid // 2], FILTER[grid], stride=2) for grid in (4, 8, 16)}
        )
        self.at = nn.ModuleDict(
            {
                str(grid): nn.Sequential(*(Residual(width, act) for _ in range(REFINEMENTS[grid])))
                for grid, width in FILTER.items()
            }
        )
        self.up = nn.ModuleDict(
            {str(grid): conv(FILTER[2 * grid], width, 1) for grid, width in FILTER_UP.items()}
        )
        self.merge = nn.ModuleDict(
            {str(grid): conv(FILTER[grid] + width, FILTER[grid]) for grid, width in FILTER_UP.items()}
        )
        self.finish = conv(FILTER[2], 12, gain=0.02)

    def forward(self, rough: Tensor, prediction: Tensor, told: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return what is lacking (N, 3, H, W) in grey levels, and the features of each grid, coarsest first.

        ``rough`` and ``prediction`` (N, 3, H, W) are 0..255, ``told`` (N, 2, H/16, W/16) is their depth.
        """
        act = self.activation
        seen = F.pixel_unshuffle(torch.cat([rough, prediction], 1) * STEP, 2)
        spread = F.interpolate(told * STEP, scale_factor=8, mode="nearest")
        entered = {2: act(self.enter(torch.cat([seen, spread], 1)))}
        for grid in (4, 8, 16):
            entered[grid] = act(self.down[str(grid)](entered[grid // 2]))
        features = [self.at["16"](entered[16])]
        for grid in (8, 4, 2):
            above = doubled(act(self.up[str(grid)](features[-1])))
            merged = act(self.merge[str(grid)](torch.cat([entered[grid], above], 1)))
            features.append(self.at[str(grid)](merged))
        lacking = F.pixel_shuffle(self.finish(features[-1]), 2).float() * LACKING
        return snapped(lacking, 1 / 4) if act.rounding else lacking, features


class Hints(nn.ModuleDict):
    """What the features of the filter tell the networks of trits (twin)."""

    def __init__(self) -> None:
        """Make the layers with fresh weights."""
        super().__init__({str(grid): conv(FILTER[grid], width, 1) for grid, width in HINTS.items()})
        self.activation = Activation(BYTE_TOP)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return what features tell of each level, coarsest first (N, C, h, w)."""
        grids = (str(grid) for grid in sorted(HINTS, reverse=True))
        return [self.activation(self[grid](part)) for grid, part in zip(grids, features, strict=True)]


class Texture(nn.Module):
    """Everything of the enhancement layer, as trained."""

    first_zero: Tensor
    first_lean: Tensor

    def __init__(self) -> None:
        """Make all networks with fresh weights.

        ``first_zero`` and ``first_lean`` (8, 3, 39, 25) are the tables that planes, bands and offsets tell.
        """
        super().__init__()
        self.around = Around()
        self.trits = Trits()
        self.filter = Filter()
        self.hint = Hints()
        self.register_buffer("first_zero", torch.zeros(PLANES, 3, sum(BANDS), OFFSETS))
        self.register_buffer("first_lean", torch.zeros(PLANES, 3, sum(BANDS), OFFSETS))


def bits(zero: Tensor, lean: Tensor, trit: Tensor) -> Tensor:
    """Return the bits of trits -1, 0, 1 by the tables that these, from 0..50 and -8..8, name."""
    zero = zero.clamp(0, ZEROS - 1) * ZERO_STEP + ZERO_LOW
    lean = lean.clamp(-(LEANS // 2), LEANS // 2) * LEAN_STEP
    other = F.logsigmoid(-zero) + F.logsigmoid(lean * trit)
    chance = torch.where(trit == 0, torch.sigmoid(zero), other.exp())
    return -torch.log2(chance * (1 - 3 * FLOOR) + FLOOR)
