"""What is to be trained: the model, the length, and what the user has fixed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cpadvisor.model import ModelSpec

METHODS = ("full",)
"""Fine-tuning methods that the planner knows."""

ENGINES = ("cpadvisor", "axolotl-0.21", "axolotl-0.20")
OBJECTIVES = ("tokens_per_s", "memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One job to plan."""

    model: ModelSpec
    sequence_len: int
    engine: str = "cpadvisor"
    method: str = "full"
    nodes: int = 1
    nic_bytes_per_s: float | None = None
    """One GPU's share of the network, one way; needed from two nodes up."""
    global_batch: int | None = None
    """Sequences an optimizer step; None takes one a data rank, accumulation 1."""
    objective: str = "tokens_per_s"
    lock: Mapping[str, int] = field(default_factory=lambda: dict[str, int]())
    """Sizes by axis that the user has fixed."""
    cp_method: str | None = None
    """How K and V meet the queries where cp is above 1; None leaves it to the time model."""
    headroom_bytes: int = 0
    """Memory of each GPU that is to stay free."""
