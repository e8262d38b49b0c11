"""How many threads the trainers use."""

from __future__ import annotations

import torch


def use(count: int) -> None:
    """Run torch's operations on ``count`` threads from now on."""
    torch.set_num_threads(count)
