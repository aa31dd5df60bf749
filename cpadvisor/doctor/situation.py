"""A config on a machine, as the planner sees it: what it would need, over which links, in which time."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cpadvisor.check.subject import Config
from cpadvisor.errors import UsageError
from cpadvisor.job import product_of
from cpadvisor.model import ModelSpec
from cpadvisor.node import Gpu, Node
from cpadvisor.plan.advice import MemoryEstimate, StepEstimate
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.engines import find_engine
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.links import group_links
from cpadvisor.plan.memory import estimate_memory
from cpadvisor.plan.methods import Way, asked_way, selected_degree, selected_method
from cpadvisor.plan.problem import Problem, survey
from cpadvisor.plan.step_time import Links, estimate_step
from cpadvisor.plan.workload import Workload
from cpadvisor.rundir import is_there

METHODS = {"head_tail": "ring", "distflash": "ring", "alltoall": "ring"}
"""Settings of axolotl's ring under which K and V travel; otherwise they are gathered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything that follows from a config and a machine before anything runs."""

    config: Config
    machine: Node
    """The whole of one machine; the GPUs that the job takes are those of `problem`."""
    problem: Problem
    candidate: Candidate
    order: tuple[int, ...]
    """GPU index of each local rank."""
    reshards: bool
    """Whether layers are sharded again between forward and backward."""
    is_example: bool = False
    """The machine stands in for one that was not named and is not here."""

    @property
    def links(self) -> Links:
        """The path of each kind of group."""
        candidate = self.candidate
        return group_links(self.problem.fabric, candidate.layout, self.order, ulysses=candidate.ulysses)

    @property
    def memory(self) -> MemoryEstimate:
        """The predicted peak against what a GPU has to give."""
        return peak_of(self.candidate, reshards=self.reshards, limit_bytes=self.problem.limit_bytes)

    @property
    def step(self) -> StepEstimate:
        """Predicted seconds of a step."""
        return estimate_step(self.candidate, self.links)

    @property
    def where(self) -> str:
        """The machine in words, for evidence."""
        count, gpu = len(self.order), self.problem.gpu
        if gpu.is_cpu:
            return f"{count} CPU process{'es' if count > 1 else ''} of this host"
        nodes = f"{self.problem.workload.nodes} x " if self.problem.workload.nodes > 1 else ""
        example = ", as an example" if self.is_example else ""
        return f"{nodes}{count} {gpu.key} of {self.machine.name}{example}"


def peak_of(candidate: Candidate, *, reshards: bool, limit_bytes: int) -> MemoryEstimate:
    """The peak of a candidate; without resharding every layer's gathered weights stay from forward to backward.

    2 bytes a parameter over tp: for the layers of Llama-3.1-8B 13.0 GiB more.
    """
    memory = estimate_memory(candidate, limit_bytes=limit_bytes)
    if reshards or not candidate.uses_fsdp:
        return memory
    layers = candidate.model.layers * candidate.model.layer_parameters
    gathered = candidate.compute_bytes * layers // candidate.layout.tp
    return replace(
        memory,
        peak_bytes=memory.peak_bytes + gathered,
        low_bytes=memory.low_bytes + gathered,
        high_bytes=memory.high_bytes + gathered,
        terms_bytes={**memory.terms_bytes, "gathered_layers": gathered},
    )


def wants_gpus(config: Config) -> bool | None:
    """True for bf16, False for float32 on CPU processes, None where the file leaves it to the machine."""
    if config.values.get("bf16") is False:
        return config.values.get("tf32") is True
    return True if config.values.get("bf16") is True or config.is_axolotl else None


def plan_command(config: Config) -> str | None:
    """The command that plans this training anew; None where its model or its length is not known here."""
    tokens = config.values.get("sequence_len")
    named = (config.block("cpadvisor").get("model"), config.values.get("base_model"))
    name = next((name for name in named if isinstance(name, str)), None)
    if config.model is None or name is None or type(tokens) is not int:
        return None
    local = config.folder / name
    return f"cpadvisor plan --model {shlex.quote(str(local) if is_there(local) else name)} --seq {tokens}"


def situate(config: Config, machine: Node, *, is_example: bool = False) -> Situation | str:
    """The situation, or the reason in words why nothing can be predicted."""
    unknown = _unknown(config)
    if unknown is not None:
        return unknown
    assert config.model is not None, "an unknown model is told above"
    layout = Layout(**{axis: config.degree(axis) for axis in ("dp_replicate", "dp_shard", "tp", "cp")})
    if wants_gpus(config) is False or machine.name == "cpu":
        machine = _cpu_processes(machine, layout.world)
    try:
        gpu = product_of(machine)
    except UsageError as error:
        return str(error)
    local = min(layout.world, len(machine.gpus))
    if layout.world % local:
        return f"{layout.world} GPUs do not spread evenly over machines of {len(machine.gpus)}"
    order = _order(config, machine, local)
    workload = Workload(
        model=config.model,
        sequence_len=int(config.values["sequence_len"]),
        engine=config.engine,
        nodes=layout.world // local,
    )
    problem = survey(machine.subset(tuple(sorted(order))), gpu, workload)
    return Situation(
        config=config,
        machine=machine,
        problem=problem,
        candidate=candidate_of(config, problem, layout),
        order=order,
        reshards=config.fsdp("reshard_after_forward") is not False,
        is_example=is_example,
    )


def _unknown(config: Config) -> str | None:
    tokens = config.values.get("sequence_len")
    if config.model is None:
        return f"the model {config.values.get('base_model')!r} is not known here, so that its size is not either"
    if type(tokens) is not int or tokens < 1:
        return f"sequence_len is {tokens!r}"
    for key in ("adapter", "deepspeed", "load_in_8bit", "load_in_4bit"):
        if config.values.get(key):
            return f"{key} {config.values[key]}: memory is predicted for full fine-tuning under FSDP alone"
    return None


def _cpu_processes(machine: Node, world: int) -> Node:
    """As many gloo processes of the host as the sizes ask for, each with its share of the memory."""
    total = sum(gpu.memory_bytes or 0 for gpu in machine.gpus) if machine.name == "cpu" else 0
    if machine.host is not None:
        total = machine.host.memory_bytes
    gpus = tuple(Gpu(index=index, name="cpu", memory_bytes=total // world) for index in range(world))
    links = tuple(tuple(None if row == column else "SYS" for column in range(world)) for row in range(world))
    return Node(name="cpu", source="recorded", gpus=gpus, links=links, host=machine.host)


def _order(config: Config, machine: Node, local: int) -> tuple[int, ...]:
    """The file's own order where it names GPUs that are there, else the first ones as they come."""
    order = config.block("cpadvisor").get("rank_order")
    if not isinstance(order, list) or any(type(index) is not int for index in order):
        return machine.indices[:local]
    is_whole = len(order) == len(set(order)) == local and set(order) <= set(machine.indices)
    return tuple(order) if is_whole else machine.indices[:local]


def candidate_of(config: Config, problem: Problem, layout: Layout) -> Candidate:
    """What memory and time are functions of, as the file has it."""
    engine, model = find_engine(config.engine), problem.model
    way = way_of(config, problem, layout)
    return Candidate(
        model=model,
        engine=engine,
        gpu=problem.gpu,
        layout=layout,
        sequence_len=problem.workload.sequence_len,
        recompute=_recompute(config, model),
        cp_method=way.method,
        ulysses=way.ulysses,
        micro_batch=_whole(config, "micro_batch_size"),
        accumulation=_whole(config, "gradient_accumulation_steps"),
        defers_reduction=config.is_axolotl and not syncs_each_batch(config),
    )


def _whole(config: Config, key: str) -> int:
    value = config.values.get(key)
    return value if type(value) is int and value > 0 else 1


def syncs_each_batch(config: Config) -> bool:
    """Whether gradients are reduced, and so sharded, after each micro-batch."""
    kwargs = config.block("accelerator_config").get("gradient_accumulation_kwargs")
    return isinstance(kwargs, Mapping) and kwargs.get("sync_each_batch") is True


def _recompute(config: Config, model: ModelSpec) -> str:
    """The policy of most layers; of as many, the one that keeps most, which the peak follows."""
    asked: Any = config.block("cpadvisor").get("recompute")
    if not config.is_axolotl and isinstance(asked, Mapping) and asked:
        counts = {name: layers for name, layers in asked.items() if isinstance(layers, int)}
        policies = find_engine(config.engine).recompute_policies
        known = [name for name in policies if counts.get(name)]
        if known:
            return max(known, key=lambda name: counts[name])
    if config.values.get("gradient_checkpointing") or config.fsdp("activation_checkpointing"):
        return "attention_saved" if config.values.get("selective_checkpointing") else "full"
    return "none"


def way_of(config: Config, problem: Problem, layout: Layout) -> Way:
    """How K and V meet the queries in this file: as its block says, and where axolotl chooses, as that would."""
    if not config.is_axolotl:
        return asked_way(config.block("cpadvisor"), problem.model, layout)
    ulysses = _ulysses(config, problem, layout)
    return Way(method=_method(config, layout, ulysses=ulysses), ulysses=ulysses)


def _ulysses(config: Config, problem: Problem, layout: Layout) -> int:
    """Ranks that exchange heads: what the block says, else what axolotl chooses."""
    block = config.block("context_parallel")
    asked, backend = block.get("ulysses_size"), block.get("backend", "auto")
    if backend == "ring":
        return 1
    if type(asked) is int and asked > 0 and layout.cp % asked == 0:
        return asked
    if backend == "ulysses":
        return layout.cp
    return selected_degree(problem.model, layout, gpus_per_node=problem.gpus)


def _method(config: Config, layout: Layout, *, ulysses: int) -> str:
    block = config.block("context_parallel")
    if layout.cp > 1 and block.get("backend") == "ring":
        travels = block.get("load_balance") in METHODS or block.get("rotate_method") in METHODS
        return "ring" if travels else "allgather"
    return selected_method(layout, ulysses=ulysses)
