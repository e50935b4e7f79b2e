"""Accelerator, threads and precision of a run's processes."""

from __future__ import annotations

import atexit
import os
from contextlib import AbstractContextManager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from earl.config.sections import Precision, Run
from earl.errors import ConfigError
from earl.policy.devices import native_bf16


def create_accelerator(run: Run, *, find_unused: bool = False) -> Accelerator:
    """The accelerator for this process, one of however many `accelerate launch` started.

    Args:
        find_unused: some parameters get no gradient (a tokenizer's temporal layers).

    Raises:
        ConfigError: run.device is "cuda" and there is none; accelerate was told to shard.
    """
    for variable, name in (("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"), ("ACCELERATE_USE_FSDP", "FSDP")):
        if os.environ.get(variable, "false").lower() == "true":
            raise ConfigError(
                f"accelerate is configured for {name}, which this loop does not run under; launch with "
                "--multi_gpu and set ranks.sharding = 'fsdp2' in the recipe (it shards what ZeRO-3 shards)"
            )
    if run.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("run.device = 'cuda', but torch sees no CUDA device; use run.device=auto")
    if run.threads:
        torch.set_num_threads(run.threads)
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=find_unused)]
    cpu = run.device == "cpu" or not torch.cuda.is_available()
    if cpu:
        # Gradients of unlikely ids fall below 1e-38, and a product of matrices with such numbers in it
        # was 15 to 200 times slower (docs/lab-notes/). Threads made from here on inherit it.
        torch.set_flush_denormal(True)
    accelerator = Accelerator(cpu=cpu, kwargs_handlers=handlers)
    if accelerator.num_processes > 1:
        atexit.unregister(_leave)
        atexit.register(_leave)
    return accelerator


def _leave() -> None:
    """Close the connections to the other ranks before Python takes itself down: a rank that ends while
    another still listens can take that one down with it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 products with float32 weights, or nothing for float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=computes_in_bf16(precision, device))


def computes_in_bf16(precision: Precision, device: torch.device) -> bool:
    """What `precision.compute` means on this device."""
    return precision.compute == "bf16" or (precision.compute == "auto" and native_bf16(device))


def gather_objects(accelerator: Accelerator, value: Any) -> list[Any]:
    """One value per rank, on every rank, in the order of the ranks."""
    if accelerator.num_processes == 1:
        return [value]
    gathered: list[Any] = [None] * accelerator.num_processes
    torch.distributed.all_gather_object(gathered, value)
    return gathered
