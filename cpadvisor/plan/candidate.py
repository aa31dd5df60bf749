"""One way to run a workload, complete enough to be costed: layout, method, recomputation, micro-batch."""

from dataclasses import dataclass

from cpadvisor.hardware import GpuSpec
from cpadvisor.model import ModelSpec
from cpadvisor.plan.engines import Engine
from cpadvisor.plan.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What memory and time are functions of."""

    model: ModelSpec
    engine: Engine
    gpu: GpuSpec
    layout: Layout
    sequence_len: int
    recompute: str
    """One of the engine's policies, the same for every layer."""
    cp_method: str = "none"
    ulysses: int = 1
    """Ranks of cp that exchange heads, neighbours; the other cp / ulysses exchange K and V."""
    micro_batch: int = 1
    accumulation: int = 1
    defers_reduction: bool = False
    """Gradients stay whole until the last micro-batch, as accelerate's no_sync has it. The configs written here turn
    that off."""

    @property
    def compute_bytes(self) -> int:
        """Width of activations and gathered parameters: 4 in float32, 2 in bf16."""
        return 4 if self.gpu.precision == "fp32" else 2

    @property
    def ring_ranks(self) -> int:
        """Ranks from one to the next of which K and V travel: cp for a ring, cp / ulysses for usp, otherwise 1.

        An engine that chooses for itself gathers them in its usp.
        """
        travels = self.cp_method == "ring" or (self.cp_method == "usp" and "usp" in self.engine.cp_methods)
        return self.layout.cp // self.ulysses if travels else 1

    @property
    def sequence_share(self) -> int:
        """Tokens of one sequence on a rank, rounded up where the engine pads."""
        return -(-self.sequence_len // self.layout.cp)

    @property
    def local_tokens(self) -> int:
        """Tokens of a rank in one micro-batch. 131,072 tokens at cp 8, micro-batch 1: 16,384."""
        return self.micro_batch * self.sequence_share

    @property
    def global_batch(self) -> int:
        """Sequences of an optimizer step (card row F2): 1 x 32 x 4 x 1 = 128."""
        return self.micro_batch * self.accumulation * self.layout.data_ranks

    @property
    def uses_fsdp(self) -> bool:
        """Whether parameters are gathered layer by layer."""
        alone = self.engine.always_fsdp and self.gpu.precision != "fp32"
        return alone or self.layout.shard_group > 1

    @property
    def deferred_bytes(self) -> int:
        """Width of gradients that stay whole between micro-batches; 0 where each one is reduced."""
        defers = self.defers_reduction and self.accumulation > 1 and self.layout.shard_group > 1
        return self.engine.accumulated_gradient_bytes if defers else 0
