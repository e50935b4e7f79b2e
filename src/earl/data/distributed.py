"""Data preparation on a Ray cluster: blocks of rows go out to actors, their edits come back in order.

The starting process reads the rows, writes the shards and counts, as it does without a cluster; so the
folder, its order, resuming and the limit of refused samples are the same. Actors open,
resize, compare and encode. They may be on any node that reaches the model and, where the source
names files by path, those files. Ray is an extra: `pip install 'earl-edit[ray]'`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earl.config.data import PreparationSettings
from earl.data.sources.sample import Read
from earl.data.tokenise import Made, make_edits
from earl.errors import ConfigError, DataError, EarlError, MissingExtraError
from earl.records import SizeRule

_AHEAD = 3  # blocks for each actor that are on their way or wait to be written


class Worker:
    """A Ray actor, which holds one vision tokenizer."""

    def __init__(self, vision: str, device: str, dtype: str) -> None:
        import torch

        from earl.vision.loading import load_vision_tokenizer

        if device == "auto":  # of this node, which may have another than the one that started it
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.encoder = load_vision_tokenizer(vision, device=device, dtype=dtype)

    def describe(self) -> tuple[str, int, int, SizeRule]:
        encoder = self.encoder
        return encoder.fingerprint(), encoder.codebook_size, encoder.area, encoder.rule

    def make(self, block: list[Read], settings: PreparationSettings, split: str) -> Made:
        return make_edits(block, self.encoder, settings, split)


class RayStage:
    """A `Stage` of actors, and the `Encoder` that says which tokenizer they have. Use as a context.

    Args:
        vision: the model, as every node can open it.
        actors: how many.
        gpus: of each actor; a fraction shares a GPU, 0 asks for none.
        address: of a cluster; None takes RAY_ADDRESS, and without it starts Ray on this machine.
        make: what an actor is, for tests.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: the cluster cannot be reached, or has no room for the actors.
        DataError: the actors have different tokenizers.
    """

    def __init__(
        self,
        vision: str,
        *,
        actors: int = 1,
        gpus: float = 0.0,
        address: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        make: type = Worker,
        patience: float = 600.0,
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError(
                "--engine ray needs Ray, which is not installed: pip install 'earl-edit[ray]', "
                "or leave --engine out to prepare in this process"
            ) from error
        self._ray = ray
        self._started = not ray.is_initialized()
        if self._started:
            try:
                ray.init(address=address, log_to_driver=False, include_dashboard=False)
            except Exception as error:  # Ray raises many kinds
                raise ConfigError(
                    f"Ray cannot be started or reached ({error}); check --ray-address"
                ) from error
        self._check_room(actors, gpus)
        options: dict[str, Any] = {"num_cpus": 1, "max_restarts": 2, "max_task_retries": 2}
        remote: Any = ray.remote  # its overloads do not take options that are decided at run time
        actor = remote(**options, **({"num_gpus": gpus} if gpus else {}))(make)
        self._actors = [actor.remote(vision, device, dtype) for _ in range(actors)]
        described = [self._get(one.describe.remote(), patience) for one in self._actors]
        if len(set(described)) > 1:
            raise DataError(f"Ray's nodes have different tokenizers for {vision}: {sorted(set(described))}")
        self._fingerprint, self.codebook_size, self.area, self.rule = described[0]

    def __enter__(self) -> RayStage:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()

    def fingerprint(self) -> str:
        return str(self._fingerprint)

    def encode(self, images: Sequence[Any], resize: bool = True) -> list[NDArray[np.int32]]:
        raise AssertionError("the actors encode")

    def __call__(
        self, blocks: Iterator[list[Read]], settings: PreparationSettings, split: str
    ) -> Iterator[Made]:
        """Edits in the order of the blocks; a few blocks for each actor are on their way at once."""
        waiting: deque[tuple[Any, int]] = deque()
        loads = [0] * len(self._actors)
        settings_ref = self._ray.put(settings)
        drained = False
        while waiting or not drained:
            while not drained and len(waiting) < _AHEAD * len(self._actors):
                block = next(blocks, None)
                if block is None:
                    drained = True
                    break
                place = loads.index(min(loads))
                waiting.append((self._actors[place].make.remote(block, settings_ref, split), place))
                loads[place] += 1
            if waiting:
                result, place = waiting.popleft()
                loads[place] -= 1
                yield self._get(result)

    def _get(self, result: Any, patience: float | None = None) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(result, timeout=patience)
        except errors.GetTimeoutError as error:
            raise ConfigError(
                f"Ray has started no actor within {patience:g} s: its nodes lack the cores or GPUs; "
                "lower --actors or --gpus-per-actor"
            ) from error
        except errors.RayTaskError as error:
            if isinstance(error.cause, EarlError):
                raise error.cause from error
            raise
        except errors.RayActorError as error:
            raise DataError(
                f"an actor of Ray ended and could not be started again ({str(error).splitlines()[0]}); "
                "what was written is whole: run the same command again to go on"
            ) from error

    def _check_room(self, actors: int, gpus: float) -> None:
        there = self._ray.cluster_resources()  # type: ignore[no-untyped-call]
        for name, wanted in (("CPU", float(actors)), ("GPU", actors * gpus)):
            if wanted > there.get(name, 0.0):
                if self._started:
                    self._ray.shutdown()
                raise ConfigError(
                    f"{actors} actors need {wanted:g} {name} of Ray's nodes, which have "
                    f"{there.get(name, 0.0):g}; lower --actors or --gpus-per-actor"
                )
