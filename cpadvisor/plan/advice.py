"""What the advisor answers: ranked plans, rejections with their mend, the trace, the card's own answer."""

from collections.abc import Mapping
from dataclasses import dataclass

from cpadvisor.plan.layout import Layout
from cpadvisor.plan.methods import way_label
from cpadvisor.units import format_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Bytes on the fullest GPU. The peak is the largest sum over the instants of a step, never a sum of everything."""

    peak_bytes: int
    low_bytes: int
    high_bytes: int
    """The band in which the peak is expected; `high_bytes` decides whether a plan fits."""
    limit_bytes: int
    """What the GPU has, less what others hold and the headroom."""
    instant: str
    """The instant of the peak: `loss`, `backward`, `tail` or `optimizer`."""
    terms_bytes: Mapping[str, int]
    """The terms that are alive at that instant; they add up to the peak."""

    @property
    def fits(self) -> bool:
        """Whether even the upper end of the band stays within the limit."""
        return self.high_bytes <= self.limit_bytes

    @property
    def verdict(self) -> str:
        """`fits` with the whole band, `tight` where only the peak itself stays within the limit, else `no`."""
        if self.fits:
            return "fits"
        return "tight" if self.peak_bytes <= self.limit_bytes else "no"

    @property
    def allocated_bytes(self) -> int:
        """What the framework's allocator reports: the peak less context, NCCL's buffers, messages and fragments."""
        outside = ("context", "nccl", "messages", "allocator")
        return self.peak_bytes - sum(self.terms_bytes.get(name, 0) for name in outside)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEstimate:
    """Seconds of one optimizer step. The terms are exposed time and add up to the total."""

    total_s: float
    low_s: float
    high_s: float
    terms_s: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodCost:
    """One method of context parallelism for a layout, at its best: what it costs, or why it is out."""

    method: str
    ulysses: int = 1
    """Ranks that exchange heads."""
    step_s: float | None = None
    """None where it does not start or fit."""
    why: str | None = None
    """Why not; None where it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One layout that starts and fits, with what it is expected to cost."""

    layout: Layout
    order: tuple[int, ...]
    """GPU index of each local rank of a node."""
    cp_method: str
    recompute: Mapping[str, int]
    """Policy to number of layers."""
    micro_batch: int
    accumulation: int
    memory: MemoryEstimate
    step: StepEstimate
    tokens_per_s_per_gpu: float
    mfu: float
    groups: Mapping[str, tuple[tuple[int, ...], ...]]
    warnings: tuple[str, ...] = ()
    ulysses: int = 1
    """Ranks of cp that exchange heads."""
    methods: tuple[MethodCost, ...] = ()
    """The chosen method first, then the others by their step, then those that are out; empty where there is one."""

    @property
    def cp_label(self) -> str:
        """The method in a word: `ring`, or `usp 4×2` for heads over 4 ranks and K and V round 2."""
        return way_label(self.cp_method, cp=self.layout.cp, ulysses=self.ulysses)

    @property
    def method_words(self) -> str:
        """`ulysses 1.18 s a step against ring 1.21 s; no usp: …`; empty where there is no other method."""
        told = [
            f"{way_label(one.method, cp=self.layout.cp, ulysses=one.ulysses)} {format_seconds(one.step_s)}"
            for one in self.methods
            if one.step_s is not None
        ]
        out = [f"no {one.method}: {one.why}" for one in self.methods if one.why is not None]
        if not told:
            return ""
        others = f" against {', '.join(told[1:])}" if told[1:] else ""
        return "; ".join([f"{told[0]} a step{others}", *out])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One layout that does not start or fit, with the nearest single change that mends it."""

    layout: Layout
    rule: str
    value: float | None
    limit: float | None
    why: str
    fix: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceStep:
    """One question of the decision tree and the numbers that answered it."""

    rule: str
    question: str
    answer: str
    value: float | None
    limit: float | None
    source: str
    """`card`, `formula` or `measured`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardAnswer:
    """What the reference card says for this length and number of GPUs, and whether ours is the same."""

    layout: Layout | None
    agrees: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The whole answer. `plans` is ranked, best first; empty where nothing fits."""

    node: str
    model: str
    sequence_len: int
    gpus: int
    engine: str
    plans: tuple[Plan, ...]
    rejected: tuple[Rejection, ...]
    trace: tuple[TraceStep, ...]
    card: CardAnswer
    unlocked: Plan | None = None
    """The first choice without the lock; None where nothing is locked, or nothing fits without it either."""
