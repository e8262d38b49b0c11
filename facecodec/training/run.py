"""A resumable training run: time budget, learning-rate schedule, averaged weights, checkpoints, log."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

WARM_UP = 0.02
CHECKPOINT_SECONDS = 120.0
AVERAGE_STEPS = 500


Network = TypeVar("Network", bound=nn.Module)


@contextmanager
def workers() -> Iterator[None]:
    """Share the steps of runs with the other workers, if torchrun started this process as one of several."""
    if not dist.is_torchelastic_launched():
        yield
        return
    dist.init_process_group("gloo")
    yield
    dist.barrier()
    dist.destroy_process_group()


class Run(Generic[Network]):
    """One training run in its own folder.

    ``model`` is trained with AdamW; the ``kernels`` of convolutions, at ``matrix_rate``, with Muon (Jordan et
    al. 2024), which learns from correlated channels in a fraction of the steps.  ``gentle`` parameters, which
    have a good start, learn with AdamW at an eighth of ``rate``.

    ``averaged`` follows it by an exponential moving average and is what gets exported.  Progress is the share
    of ``minutes`` spent, counted over all sessions of the run, and drives a cosine schedule, so an
    interrupted run goes on where it stopped.  Within a process group the workers share each step: gradients
    are averaged, and worker 0 keeps the time, the log and the checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        model: Network,
        *,
        minutes: float,
        rate: float,
        weight_decay: float = 0.0,
        matrix_rate: float = 0.0,
        kernels: Iterable[Tensor] = (),
        gentle: Iterable[Tensor] = (),
    ) -> None:
        """Open the run in ``folder``, resuming from its checkpoint if there is one."""
        self.folder = folder
        self.model: Network = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = deepcopy(model).requires_grad_(False).eval()
        self.minutes = minutes
        self.kernels, soft = list(kernels), list(gentle)
        self.matrices = [as_matrix(kernel.detach()) for kernel in self.kernels]
        chosen = {id(p) for p in [*self.kernels, *soft]}
        others = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if soft:
            groups.append({"params": soft, "weight_decay": 0.0, "lr": rate / 8})
        self.optimizers: dict[str, torch.optim.Optimizer] = {"optimizer": torch.optim.AdamW(groups, lr=rate)}
        if self.matrices:
            self.optimizers["muon"] = torch.optim.Muon(self.matrices, lr=matrix_rate, weight_decay=0.0)
        self.rates = [group["lr"] for group in self._groups()]
        self.worker = dist.get_rank() if dist.is_initialized() else 0
        self.step = 0
        self.seconds = 0.0
        self.sums: dict[str, float] = {}
        self.counted = 0
        folder.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self._load()

    @property
    def checkpoint(self) -> Path:
        """Return the path of the newest checkpoint."""
        return self.folder / "checkpoint.safetensors"

    @property
    def progress(self) -> float:
        """Return the share of the budget spent, 0..1."""
        return min(1.0, self.seconds / (60 * self.minutes))

    def steps(self) -> Iterator[int]:
        """Yield step numbers until the budget is spent, setting the rate and writing checkpoints."""
        last, saved = time.monotonic(), time.monotonic()
        while self.progress < 1:
            share = 0.5 * (1 + math.cos(math.pi * self.progress)) * min(1, self.step / 200 + 0.01)
            for group, rate in zip(self._groups(), self.rates, strict=True):
                group["lr"] = rate * max(share, 0.002)
            yield self.step
            self.step += 1
            now = time.monotonic()
            self.seconds = self._agreed(self.seconds + now - last)
            last = now
            if now - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = now
        self.save()

    def descend(self, loss: Tensor, *, clip: float = 1.0) -> None:
        """Take one optimiser step down ``loss`` with the gradient norm clipped, and move the average."""
        self.model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if dist.is_initialized():
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= dist.get_world_size()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        if torch.isfinite(norm):
            for matrix, kernel in zip(self.matrices, self.kernels, strict=True):
                matrix.grad = None if kernel.grad is None else as_matrix(kernel.grad)
            for optimizer in self.optimizers.values():
                optimizer.step()
        self.note(gradient=norm.item())
        keep = min(1 - 1 / AVERAGE_STEPS, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for slow, fast in zip(
                self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True
            ):
                if slow.dtype.is_floating_point:
                    slow.lerp_(fast, 1 - keep)
                else:
                    slow.copy_(fast)

    def note(self, **values: float) -> None:
        """Add values to the running means of the next log line."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        if "gradient" in values:
            self.counted += 1

    def log(self, **extra: float) -> None:
        """Write one line with the means since the last one to ``log.jsonl`` and to standard output."""
        if self.worker:
            return
        means = {name: round(value / max(1, self.counted), 5) for name, value in self.sums.items()}
        line = {"step": self.step, "minutes": round(self.seconds / 60, 2), **means, **extra}
        self.sums, self.counted = {}, 0
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def save(self) -> None:
        """Write the checkpoint atomically."""
        if self.worker:
            return
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"averaged.{k}": v for k, v in self.averaged.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}.{index}.{k}": v for k, v in state.items()}
        partial = self.checkpoint.with_suffix(".part")
        save_file(
            {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()},
            partial,
            {"step": str(self.step), "seconds": str(self.seconds)},
        )
        partial.replace(self.checkpoint)

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]

    @staticmethod
    def _agreed(seconds: float) -> float:
        """Return what worker 0 says."""
        if not dist.is_initialized():
            return seconds
        told = torch.tensor([seconds], dtype=torch.float64)
        dist.broadcast(told, 0)
        return float(told)

    def _load(self) -> None:
        model: dict[str, Tensor] = {}
        averaged: dict[str, Tensor] = {}
        states: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in self.optimizers}
        with safe_open(self.checkpoint, "pt") as file:
            metadata = file.metadata()
            for key in file.keys():  # noqa: SIM118
                kind, name = key.split(".", 1)
                if kind == "model":
                    model[name] = file.get_tensor(key)
                elif kind == "averaged":
                    averaged[name] = file.get_tensor(key)
                else:
                    index, field = name.split(".", 1)
                    states[kind].setdefault(int(index), {})[field] = file.get_tensor(key)
        self.model.load_state_dict(model)
        self.averaged.load_state_dict(averaged)
        for name, optimizer in self.optimizers.items():
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": states[name], "param_groups": groups})
        self.step = int(metadata["step"])
        self.seconds = float(metadata["seconds"])


def as_matrix(kernel: Tensor) -> Tensor:
    """Return a kernel (O, C, k, k), channels last in memory, as a matrix (O, k * k * C) that shares it."""
    return kernel.permute(0, 2, 3, 1).flatten(1)
