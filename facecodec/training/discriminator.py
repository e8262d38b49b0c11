"""Tell decoded faces from photographs: the part of the hybrid metric that asks whether a face looks real."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import facecodec
from facecodec.networks.texture import conv
from facecodec.training.embedding import to_batch

BYTES = (256, 1536)
"""How long files of decoded faces are, at least and at most."""
EPOCHS = 12
BATCH = 32
RATE = 1e-3
LEAK = 0.2


class Discriminator(nn.Module):
    """Faces (N, 3, H, W), 0..255 -> logits (N, 1, H/8, W/8): is this patch from a photograph?"""

    def __init__(self) -> None:
        """Make the layers with fresh weights."""
        super().__init__()
        parts = [
            (conv(inputs, outputs), nn.LeakyReLU(LEAK), conv(outputs, outputs, stride=2), nn.LeakyReLU(LEAK))
            for inputs, outputs in ((3, 32), (32, 48), (48, 64))
        ]
        self.layers = nn.Sequential(*(layer for part in parts for layer in part), conv(64, 1, 1))

    def forward(self, views: Tensor) -> Tensor:
        """Return the logits of patches."""
        logits: Tensor = self.layers(views / 127.5 - 1)
        return logits


def decoded(views: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what files of any length in ``BYTES`` show of aligned faces, both uint8 (N, 112, 112, 3)."""
    lengths = rng.integers(BYTES[0], BYTES[1] + 1, len(views))
    files = (
        facecodec.encode(view, aligned=True, max_bytes=int(length))
        for view, length in zip(views, lengths, strict=True)
    )
    return np.array([facecodec.decode(file).pixels for file in files])


def learn(photographs: np.ndarray, others: np.ndarray) -> Discriminator:
    """Return a discriminator of faces and what was decoded of them, both uint8 (N, 112, 112, 3)."""
    torch.manual_seed(0)
    network = Discriminator().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    batches = -(-len(photographs) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * batches)
    for _ in range(EPOCHS):
        for chosen in np.array_split(torch.randperm(len(photographs)).numpy(), batches):
            real, fake = (network(to_batch(part[chosen])) for part in (photographs, others))
            loss = F.softplus(-real).mean() + F.softplus(fake).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval().requires_grad_(False)
