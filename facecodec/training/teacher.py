"""The recogniser to learn from: its answers, and what lies between its blocks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CONVOLUTIONS = (torch.ops.aten._convolution.default, torch.ops.aten.convolution.default)


class Teacher:
    """A TorchScript recogniser whose last layer is linear, in bfloat16."""

    def __init__(self, path: Path) -> None:
        """Load the recogniser."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            network: torch.nn.Module = torch.jit.load(path)  # type: ignore[no-untyped-call]
        self.network = network.to(torch.bfloat16).eval()

    @torch.no_grad()
    def answer(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Return raw embeddings (N, E) and the features (N, F) that they are a linear function of."""
        with _Trace() as trace:
            embeddings: Tensor = self.network(views.bfloat16())
        return embeddings.float(), trace.features.float()

    @torch.no_grad()
    def maps(self, views: Tensor) -> list[Tensor]:
        """Return the maps (N, C, h, w) after each of its blocks, in bfloat16; the last are the features."""
        with _Trace() as trace:
            self.network(views.bfloat16())
        height, width = trace.maps[-1].shape[2:]
        return [*trace.maps, trace.features.unflatten(1, (-1, height, width))]


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers what the last linear layer sees, and what convolutions see that no activation made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.maps: list[Tensor] = []
        self.features = torch.empty(0)
        self._convolved = self._linear = False

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: tuple[Any, ...] = (), options: Any = None
    ) -> Any:
        if operation is torch.ops.aten.addmm.default:
            self.features = arguments[1]
        convolution = operation in CONVOLUTIONS
        if convolution and self._linear:
            self.maps.append(arguments[0])
        self._convolved |= convolution
        self._linear = convolution or (self._convolved and operation is torch.ops.aten.add.Tensor)
        return operation(*arguments, **(options or {}))
