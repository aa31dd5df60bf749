"""What is asked of the planner: the node's fabric, the engine, and what memory a GPU has to give."""

from dataclasses import dataclass, replace

from cpadvisor.hardware import GpuSpec
from cpadvisor.model import ModelSpec
from cpadvisor.node import Node
from cpadvisor.plan.activations import cp_buffer_bytes
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.engines import Engine, find_engine
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.links import Fabric, see_fabric
from cpadvisor.plan.methods import Way, cp_ways
from cpadvisor.plan.workload import Workload

MAX_MICRO_BATCH = 16
"""Larger micro-batches gain nothing at the lengths planned here, where one sequence fills a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One planning question, with what follows from it for every layout."""

    fabric: Fabric
    workload: Workload
    engine: Engine
    limit_bytes: int
    """Of the GPU with least to give: its memory less what is held and the headroom."""

    @property
    def model(self) -> ModelSpec:
        """The model to train."""
        return self.workload.model

    @property
    def gpu(self) -> GpuSpec:
        """The rates of one GPU."""
        return self.fabric.gpu

    @property
    def gpus(self) -> int:
        """GPUs of one node that may be used."""
        return self.fabric.gpus

    @property
    def world(self) -> int:
        """GPUs of all nodes."""
        return self.gpus * self.workload.nodes


def survey(node: Node, gpu: GpuSpec, workload: Workload) -> Problem:
    """The problem of a workload on some nodes alike."""
    free = [(one.memory_bytes or gpu.memory_bytes) - (one.used_bytes or 0) for one in node.gpus]
    return Problem(
        fabric=see_fabric(node, gpu, workload.nic_bytes_per_s),
        workload=workload,
        engine=find_engine(workload.engine),
        limit_bytes=max(min(free, default=0) - workload.headroom_bytes, 0),
    )


def batch_splits(problem: Problem, layout: Layout) -> tuple[tuple[int, int], ...]:
    """Micro-batch and accumulation that give the wanted global batch; (1, 1) where none is wanted.

    A global batch of 32 over 4 data ranks: 8 sequences a rank, as (1, 8), (2, 4), (4, 2) or (8, 1). Empty where the
    batch does not split.
    """
    wanted = problem.workload.global_batch
    if wanted is None:
        return ((1, 1),)
    if wanted % layout.data_ranks:
        return ()
    share = wanted // layout.data_ranks
    return tuple((micro, share // micro) for micro in range(1, MAX_MICRO_BATCH + 1) if share % micro == 0)


def ways(problem: Problem, layout: Layout) -> tuple[Way, ...]:
    """How K and V may meet the queries: every way that starts, or those of the method that is asked for."""
    asked = problem.workload.cp_method
    return tuple(
        way
        for way in cp_ways(problem.engine, problem.model, layout, gpus_per_node=problem.gpus)
        if asked in (None, way.method) or way.method == "none"
    )


def candidates(problem: Problem, layout: Layout) -> tuple[Candidate, ...]:
    """Every way to run a layout: recomputation policy x micro-batch and accumulation x method, lightest policy last."""
    return tuple(
        _candidate(problem, layout, policy, splits, way)
        for policy in problem.engine.recompute_policies
        for splits in batch_splits(problem, layout)
        for way in ways(problem, layout)
    )


def lightest(problem: Problem, layout: Layout, *, sequence_len: int | None = None) -> Candidate:
    """The way that needs least memory: most recomputation, smallest micro-batch, least in flight between ranks."""
    splits = (batch_splits(problem, layout) or ((1, 1),))[0]
    policy = problem.engine.recompute_policies[-1]
    possible = [_candidate(problem, layout, policy, splits, way) for way in ways(problem, layout) or (Way(),)]
    light = min(possible, key=cp_buffer_bytes)
    return light if sequence_len is None else replace(light, sequence_len=sequence_len)


def _candidate(problem: Problem, layout: Layout, policy: str, splits: tuple[int, int], way: Way) -> Candidate:
    micro, accumulation = splits
    return Candidate(
        model=problem.model,
        engine=problem.engine,
        gpu=problem.gpu,
        layout=layout,
        sequence_len=problem.workload.sequence_len,
        recompute=policy,
        cp_method=way.method,
        ulysses=way.ulysses,
        micro_batch=micro,
        accumulation=accumulation,
    )
