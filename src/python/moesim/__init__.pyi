from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Result",
    "Trace",
    "UserError",
    "Visit",
    "commit",
    "devices",
    "models",
    "policies",
    "register_routing",
    "resolved_config",
    "run",
    "version",
]

_Path = str | PathLike[str]
_Config = Mapping[str, Any] | _Path
_Overrides = Mapping[str, Any] | Iterable[str]
_Selection = ArrayLike | tuple[ArrayLike, ArrayLike]

version: str
commit: str

class UserError(ValueError): ...

class _Context(Protocol):
    tokens: int
    layers: int
    experts: int
    k: int
    gate: str
    seed: int

class _RoutingObject(Protocol):
    def route(self, visit: Visit) -> _Selection: ...

_Routing = Callable[..., _Selection] | Callable[..., _RoutingObject]

class Visit:
    @property
    def token(self) -> int: ...
    @property
    def sequence(self) -> int: ...
    @property
    def layer(self) -> int: ...
    @property
    def k(self) -> int: ...
    @property
    def experts(self) -> int: ...
    @property
    def gate(self) -> str: ...
    @property
    def logits(self) -> NDArray[np.float32] | None: ...
    @property
    def native_ids(self) -> NDArray[np.uint16]: ...
    @property
    def native_weights(self) -> NDArray[np.float64]: ...
    @property
    def probabilities(self) -> NDArray[np.float64] | None: ...
    @property
    def ranking(self) -> NDArray[np.float64] | None: ...
    @property
    def resident(self) -> NDArray[np.bool_]: ...
    @property
    def in_flight(self) -> NDArray[np.bool_]: ...
    def eviction_score(self, expert: int) -> float: ...

class Trace:
    @classmethod
    def load(cls, path: _Path) -> Trace: ...
    @classmethod
    def from_numpy(
        cls,
        logits: ArrayLike | None = ...,
        *,
        ids: ArrayLike | None = ...,
        weights: ArrayLike | None = ...,
        gate: str | None = ...,
        top_k: int | None = ...,
        experts: int | None = ...,
        ranked: bool = ...,
        sequence: ArrayLike | None = ...,
        phase: ArrayLike | None = ...,
        token_ids: ArrayLike | None = ...,
        expert_bytes: ArrayLike | None = ...,
        selection_bias: ArrayLike | None = ...,
        next_layer_logits: ArrayLike | None = ...,
        router_input_l1: ArrayLike | None = ...,
        attention_received: ArrayLike | None = ...,
        bfloat16: bool = ...,
        model: str | None = ...,
        provenance: str | None = ...,
        metadata: Mapping[str, str] | None = ...,
        name: str = ...,
    ) -> Trace: ...
    def save(self, path: _Path) -> None: ...
    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def tensors(self) -> Mapping[str, NDArray[Any]]: ...
    @property
    def logits(self) -> NDArray[Any] | None: ...
    @property
    def ids(self) -> NDArray[Any] | None: ...
    @property
    def weights(self) -> NDArray[Any] | None: ...
    @property
    def sequence(self) -> NDArray[np.int32] | None: ...
    @property
    def phase(self) -> NDArray[np.uint8] | None: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def gate(self) -> str | None: ...
    @property
    def top_k(self) -> int | None: ...
    @property
    def ranked(self) -> bool: ...
    @property
    def path(self) -> str | None: ...
    @property
    def sha256(self) -> str: ...

class Result(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    @property
    def json(self) -> dict[str, Any]: ...
    def to_json(self) -> str: ...
    def summary(self) -> str: ...
    @property
    def tokens(self) -> dict[str, NDArray[Any]]: ...
    @property
    def selections(self) -> dict[str, NDArray[Any]]: ...
    @property
    def warnings(self) -> list[str]: ...

def models() -> list[str]: ...
def devices() -> list[str]: ...
def policies(kind: str) -> list[dict[str, Any]]: ...
def register_routing(
    name: str,
    policy: _Routing,
    *,
    description: str = ...,
    parameters: Mapping[str, Any] | None = ...,
    max_experts: int | None = ...,
    looks_at_residency: bool | None = ...,
    needs_logits: bool | None = ...,
) -> None: ...
def resolved_config(
    config: _Config,
    overrides: _Overrides = ...,
    *,
    trace: Trace | None = ...,
    base_dir: _Path | None = ...,
) -> dict[str, Any]: ...
def run(
    config: _Config,
    overrides: _Overrides = ...,
    *,
    trace: Trace | None = ...,
    routing: _Routing | None = ...,
    tokens: bool = ...,
    selections: bool = ...,
    base_dir: _Path | None = ...,
) -> Result: ...
