"""What the codec's own recogniser sees of a face in decoded pictures: the semantic part of the metric."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facecodec import faces, weights
from facecodec.networks import encoder
from facecodec.networks.embedding import Trunk
from facecodec.training.crops import SIDE

JUDGED = 4
"""Faces of a batch that are looked at."""
IN_VIEW = 0.9
"""How much of their frame has to be in the crop."""


class Likeness:
    """The newest trunk, that tells how little decoded faces are like their pictures."""

    def __init__(self) -> None:
        """Load the newest trunk."""
        self.trunk = Trunk()
        self.trunk.load_state_dict(encoder.state(weights.load(weights.newest("trunk")), "trunk."))
        self.trunk.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def lacking(self, decoded: Tensor, pictures: Tensor, frames: Tensor, depth: np.ndarray) -> Tensor:
        """Return 1 - cosine of embeddings of decoded faces and their pictures (N, 3, 128, 128), the mean.

        Of the ``JUDGED`` that were cut at the greatest depth (N,) among those whose frame, at ``frames``
        (N, 2, 3), is all but in view.
        """
        grid = torch.stack(torch.meshgrid(*[torch.arange(faces.FRAME).float()] * 2, indexing="xy"), 2)
        places = grid.flatten(0, 1) @ frames[:, :, :2].mT + frames[:, None, :, 2]
        inside = ((places > -0.5) & (places < SIDE - 0.5)).all(2).float().mean(1)
        seen = ((inside > IN_VIEW) & (frames[:, 0, :2].abs().sum(1) > 0)).numpy()
        judged = np.argsort(-np.where(seen, depth, -np.inf), kind="stable")[: min(JUDGED, int(seen.sum()))]
        if not len(judged):
            return torch.zeros(())
        where = ((2 * places + 1) / SIDE - 1)[judged].view(-1, faces.FRAME, faces.FRAME, 2)
        with torch.autocast("cpu", torch.bfloat16):
            found = self._embedded(decoded[judged], where)
            with torch.no_grad():
                wanted = self._embedded(pictures[judged], where)
        return 1 - F.cosine_similarity(found, wanted).mean()

    def _embedded(self, pictures: Tensor, where: Tensor) -> Tensor:
        views = F.grid_sample(
            pictures.float().clamp(0, 255), where, padding_mode="border", align_corners=False
        )
        embedding: Tensor = self.trunk(views.contiguous(memory_format=torch.channels_last))[0].float()
        return embedding
