"""Face detector: one prediction a cell at strides 8, 16 and 32, without anchors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from facecodec.errors import WeightsError
from facecodec.networks.precision import reduced

Floats = npt.NDArray[np.float32]

STRIDES = (8, 16, 32)
OUTPUTS = 15
"""A cell's outputs: score logit, log distances to the four sides, offsets of the five landmarks."""

WIDTHS = (32, 64, 96, 112)
NECK = 64
LARGEST_LOG = 4.0


class Block(nn.Module):
    """Convolution, batch norm, ReLU; (N, C, H, W) to (N, O, H / stride, W / stride)."""

    def __init__(
        self, inputs: int, outputs: int, size: int = 3, stride: int = 1, padding: int | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2 if padding is None else padding)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        return torch.relu_(self.norm(self.conv(x)))


class Residual(nn.Module):
    """Two convolutions around a skip connection; shape unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Block(channels, channels)
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1)
        self.norm: nn.Module = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        return torch.relu_(self.norm(self.conv(self.first(x))).add_(x))


class Detector(nn.Module):
    """Pictures to predictions.

    ``forward`` takes float32 RGB (N, 3, H, W) in -1..1, H and W multiples of 32, and returns float32
    (N, cells, 15): the cells of stride 8 first, each level row by row.
    """

    def __init__(self) -> None:
        super().__init__()
        quarter, eighth, sixteenth, last = WIDTHS
        self.stem = Block(3, quarter, 6, 4, 1)
        self.stage8 = nn.Sequential(Block(quarter, eighth, stride=2), Residual(eighth))
        self.stage16 = nn.Sequential(
            Block(eighth, sixteenth, stride=2), Residual(sixteenth), Residual(sixteenth)
        )
        self.stage32 = nn.Sequential(Block(sixteenth, last, stride=2), Residual(last))
        self.sides = nn.ModuleList(nn.Conv2d(width, NECK, 1) for width in WIDTHS[1:])
        self.heads = nn.ModuleList(Block(NECK, NECK) for _ in STRIDES)
        self.outputs = nn.ModuleList(nn.Conv2d(NECK, OUTPUTS, 1) for _ in STRIDES)
        for output in self.outputs:
            assert isinstance(output, nn.Conv2d) and output.bias is not None
            nn.init.normal_(output.weight, 0, 0.01)
            nn.init.zeros_(output.bias)
            with torch.no_grad():
                output.bias[0] = -4.0
                output.bias[1:5] = 0.7

    def forward(self, x: Tensor) -> Tensor:
        """Return the raw outputs of every cell."""
        x8 = self.stage8(self.stem(x))
        x16 = self.stage16(x8)
        x32 = self.stage32(x16)
        merged: Tensor | None = None
        levels: list[Tensor] = []
        for level in (2, 1, 0):
            side = self.sides[level]((x8, x16, x32)[level])
            if merged is not None:
                side = side + nn.functional.interpolate(merged, scale_factor=2.0)
            merged = self.heads[level](side)
            assert merged is not None
            with torch.autocast(x.device.type, enabled=False):
                levels.insert(0, self.outputs[level](merged.float()).flatten(2).transpose(1, 2))
        return torch.cat(levels, 1)


def cells(height: int, width: int) -> Tensor:
    """Return float32 (cells, 3) of a picture: centre x, centre y (pixel centres whole numbers), stride."""
    levels = []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        centre = torch.stack([x, y], -1).reshape(-1, 2) * stride + (stride - 1) / 2
        levels.append(torch.cat([centre, torch.full((len(centre), 1), float(stride))], 1))
    return torch.cat(levels)


def read_cells(outputs: Tensor, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return score logits (..., cells), boxes (..., cells, 4) and landmarks (..., cells, 5, 2) in pixels."""
    centre, stride = grid[:, :2], grid[:, 2:]
    reach = stride * outputs[..., 1:5].clamp(max=LARGEST_LOG).exp()
    boxes = torch.cat([centre - reach[..., :2], centre + reach[..., 2:]], -1)
    offsets = (stride * outputs[..., 5:]).reshape(*outputs.shape[:-1], 5, 2)
    return outputs[..., 0], boxes, centre[:, None] + offsets


def fold(network: Detector) -> Detector:
    """Fold every batch norm of ``network`` (in eval mode) into its convolution, in place, and return it."""
    for module in network.modules():
        if isinstance(module, (Block, Residual)) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()
    return network


@torch.no_grad()
def unfold(network: Detector, tensors: Mapping[str, npt.NDArray[np.generic]], x: Tensor) -> None:
    """Give a network the tensors that ``fold`` left of one, to learn on from them.

    Its batch norms, whose statistics are lost, do nothing to pictures like ``x`` (N, 3, H, W), in -1..1.
    """
    state = {name: torch.from_numpy(tensor.astype(np.float32)) for name, tensor in tensors.items()}
    network.load_state_dict(state, strict=False)

    def settle(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        deviation = (variance + norm.eps).sqrt()
        norm.load_state_dict(
            {"weight": deviation, "bias": mean, "running_mean": mean, "running_var": variance}, strict=False
        )

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    network.eval()(x)
    for hook in hooks:
        hook.remove()


def load_detector(tensors: Mapping[str, npt.NDArray[np.generic]]) -> Detector:
    """Return the folded detector, ready for inference, from the tensors of its weights file.

    Raises WeightsError if a tensor is missing, unknown or of the wrong shape.
    """
    network = fold(Detector().eval()).requires_grad_(False)
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}:
        raise WeightsError("the detector's weights are not those of this network")
    network.load_state_dict(
        {name: torch.from_numpy(tensor.astype(np.float32)) for name, tensor in tensors.items()}
    )
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def predict(network: Detector, pixels: npt.NDArray[np.uint8]) -> tuple[Floats, Floats, Floats]:
    """Return every cell's score 0..1 (N, n), box (N, n, 4) and landmarks (N, n, 5, 2) for uint8 (N, H, W, 3).

    Height and width are multiples of 32; boxes and landmarks are in pixels.
    """
    with torch.inference_mode(), reduced():
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().sub_(127.5).mul_(1 / 127.5)
        outputs = network(x.contiguous(memory_format=torch.channels_last))
        scores, boxes, landmarks = read_cells(outputs, cells(*pixels.shape[1:3]))
        return scores.sigmoid().numpy(), boxes.numpy(), landmarks.numpy()
