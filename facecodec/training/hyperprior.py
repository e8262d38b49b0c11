"""Train the neural codec that ours is compared with: the same pictures, bits and squared error, no more."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from facecodec.networks.hyperprior import RATES, Hyperprior, bits
from facecodec.training.crops import BATCH, SIDE, Draw
from facecodec.training.run import Run

RATE = 5e-4
MATRIX_RATE = 0.01
LEAST_LAMBDA, LAMBDA_STEP = 3e-4, 2.5
"""What a squared grey level is worth in bits a pixel, at the lowest rate, and from one rate to the next."""
LOG_STEPS = 100


def train(*, data: Path, runs: Path, minutes: float) -> None:
    """Train on sets ``train-*`` and ``scenes`` of ``data``."""
    torch.manual_seed(0)
    model = Hyperprior()
    kernels = [p for p in model.parameters() if p.ndim == 4 and 3 not in p.shape[:2]]
    run = Run(
        runs / "hyperprior", model, minutes=minutes, rate=RATE, matrix_rate=MATRIX_RATE, kernels=kernels
    )
    draw = Draw(data, runs / "cache", [run.step, run.worker, 4])
    torch.manual_seed(run.step * 16 + run.worker)
    for step in run.steps():
        pictures, _, _ = draw.batch()
        rate = (RATES - 1) * torch.rand(BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            size, decoded = coded(model, pictures, rate)
        size, error = size / SIDE**2, (decoded - pictures).square().mean((1, 2, 3))
        worth = LEAST_LAMBDA * LAMBDA_STEP**rate
        run.descend((size / worth.sqrt() + worth.sqrt() * error).mean(), clip=1.0)
        run.note(bits=size.mean().item(), psnr=(10 * torch.log10(255**2 / error.detach())).mean().item())
        if step % LOG_STEPS == LOG_STEPS - 1:
            run.log()


def coded(model: Hyperprior, pictures: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bits (N,) that pictures take, as noise stands for rounding, and what is decoded of them.

    What is decoded comes from integers, whose gradient is taken to be that of their latents.
    """
    gain, back = model.gains(rate)
    latent = model.analysed(pictures, gain)
    middle, spread = model.hyper()
    hyper = model.h_a(latent).float()
    size = bits(noisy(hyper) - middle, spread).sum((1, 2, 3))
    mean, scale = model.expected(rounded(hyper - middle) + middle)
    size = size + bits(noisy(latent) - mean, scale).sum((1, 2, 3))
    return size, model.synthesised(rounded(latent - mean) + mean, back)


def noisy(x: Tensor) -> Tensor:
    """Return values with the uniform noise of rounding."""
    return x + torch.rand_like(x) - 0.5


def rounded(x: Tensor) -> Tensor:
    """Return integers, with the gradient of what was rounded."""
    return x + (x.round() - x).detach()
