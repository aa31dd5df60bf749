"""Two runs side by side: are they context parallel, did each rank send what it must, and is the result the same?

Attention over a ring is exact (row P1 of the card): its partial results merge to
what one GPU computes over the whole sequence, but for rounding. So a difference
beyond rounding is a fault, and rounding is what the tolerances allow.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cpadvisor.parity.readings import RankReading, Reading
from cpadvisor.units import format_bytes, format_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far one step of two runs may lie apart, relative to cp 1."""

    loss: float
    grad_norm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """The limits, and why they are where they are."""

    first: Limits
    """Of step 1, for which both runs have the same weights: the rounding of one pass."""
    later: Limits
    """Of the steps after it, whose weights rounding has moved."""
    why: str

    def of(self, step: int) -> Limits:
        """The limits of a step, counted from 1."""
        return self.first if step == 1 else self.later


FLOAT32 = Tolerance(
    first=Limits(loss=1e-4, grad_norm=1e-4),
    later=Limits(loss=1e-4, grad_norm=1e-4),
    why="float32: sums in another order differ by 1e-7 in the loss and, after six steps, 2e-6 in the gradient norm",
)
BFLOAT16 = Tolerance(
    first=Limits(loss=1e-4, grad_norm=1e-3),
    later=Limits(loss=3e-2, grad_norm=1e-1),
    why=(
        "bf16: a kernel's own error, 2e-3 to 6e-3, averages out over the tokens. In step 1 another kernel, or the "
        "ring's arithmetic at cp 2 and 4, changes the loss by 5e-6 and the gradient norm by 2e-4; a rank that does not "
        "exchange by 2e-3 and 1e-2. Updates multiply rounding: 1.4e-2 and 5e-2 within six steps (1B and 0.6B, 16K, "
        "one H200). Two H100 over NVLink, 1B at 8K: 9e-6 and 9e-5 in step 1, 9e-3 and 3e-1 without the exchange"
    ),
)
"""Measured with random weights at a rate of 1e-3, which multiplies most; the limits are some times what was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPair:
    """One step of both runs; None for what is missing or no number."""

    step: int
    loss_whole: float | None
    loss_parallel: float | None
    norm_whole: float | None
    norm_parallel: float | None

    @property
    def loss_difference(self) -> float | None:
        """Relative to cp 1."""
        return relative(self.loss_whole, self.loss_parallel)

    @property
    def norm_difference(self) -> float | None:
        """Relative to cp 1."""
        return relative(self.norm_whole, self.norm_parallel)

    def within(self, tolerance: Tolerance) -> bool:
        """Whether both values are there and close enough."""
        loss, norm, limits = self.loss_difference, self.norm_difference, tolerance.of(self.step)
        return loss is not None and norm is not None and loss <= limits.loss and norm <= limits.grad_norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question and its answer."""

    name: str
    """`split`, `traffic`, `loss` or `grad_norm`."""
    outcome: str
    """`passed`, `failed`, or `not seen` where the trainer does not say what is asked."""
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What two runs show."""

    word: str
    """`equal`, `differs` or `not context parallel`."""
    cp: int
    sequence_len: int
    steps: tuple[StepPair, ...]
    checks: tuple[Check, ...]
    tolerance: Tolerance
    first_wrong_step: int | None

    @property
    def is_equal(self) -> bool:
        """Whether nothing was found."""
        return self.word == "equal"


def relative(whole: float | None, parallel: float | None) -> float | None:
    """|parallel - whole| / |whole|; the plain difference beside zero; None where a value is missing or no number.

    4.9581 beside 4.9580: 2.0e-5.
    """
    if whole is None or parallel is None or not (math.isfinite(whole) and math.isfinite(parallel)):
        return None
    return abs(parallel - whole) / (abs(whole) or 1.0)


def judge(whole: Reading, parallel: Reading, *, steps: int, step_bytes: Sequence[int] | None) -> Verdict:
    """Compare a run at cp 1 with one at cp n. `step_bytes` is what each rank has to send in a step; None is unknown."""
    tolerance = BFLOAT16 if parallel.on_gpu else FLOAT32
    pairs = tuple(_pairs(whole.ranks[0], parallel, steps))
    split, traffic = _split(parallel), _traffic(parallel, steps, step_bytes)
    checks = (split, traffic, _values("loss", pairs, tolerance), _values("grad_norm", pairs, tolerance))
    wrong = [pair.step for pair in pairs if not pair.within(tolerance)]
    return Verdict(
        word=_word(parallel, checks),
        cp=parallel.cp,
        sequence_len=parallel.sequence_len,
        steps=pairs,
        checks=checks,
        tolerance=tolerance,
        first_wrong_step=min(wrong, default=None),
    )


def _word(parallel: Reading, checks: tuple[Check, ...]) -> str:
    failed = {check.name for check in checks if check.outcome == "failed"}
    silent = all(rank.sent_bytes and not any(rank.sent_bytes.values()) for rank in parallel.ranks)
    if "split" in failed or silent:
        return "not context parallel"
    return "differs" if failed else "equal"


def _pairs(whole: RankReading, parallel: Reading, steps: int) -> Iterator[StepPair]:
    """Loss and norm are the same on all ranks of a run; where one of them says another, the one that is off counts."""
    for step in range(1, steps + 1):
        yield StepPair(
            step=step,
            loss_whole=whole.loss.get(step),
            loss_parallel=_farthest(whole.loss.get(step), [rank.loss.get(step) for rank in parallel.ranks]),
            norm_whole=whole.grad_norm.get(step),
            norm_parallel=_farthest(whole.grad_norm.get(step), [rank.grad_norm.get(step) for rank in parallel.ranks]),
        )


def _farthest(whole: float | None, values: list[float | None]) -> float | None:
    distances = [relative(whole, value) for value in values]
    if None in distances:
        return None
    return max(zip(distances, values, strict=True), key=lambda pair: pair[0] or 0.0)[1]


def _split(parallel: Reading) -> Check:
    """Row D5: local tokens x cp = the whole micro-batch, alike on every rank, by some method."""
    wanted = parallel.sequence_len * parallel.micro_batch
    mute = [rank.rank for rank in parallel.ranks if rank.local_tokens is None or rank.method is None]
    if mute:
        return Check(name="split", outcome="failed", evidence=f"{_ranks(mute)} never said how the sequence is split")
    off = [rank.rank for rank in parallel.ranks if (rank.local_tokens or 0) * parallel.cp != wanted]
    idle = [rank.rank for rank in parallel.ranks if rank.method == "none"]
    local = format_count(parallel.ranks[0].local_tokens)
    if off:
        local = format_count(parallel.ranks[off[0]].local_tokens)
        evidence = f"{_ranks(off)} {_verb(off)} {local} local tokens; x cp {parallel.cp} that is not {wanted:,}"
        return Check(name="split", outcome="failed", evidence=evidence)
    if idle:
        return Check(name="split", outcome="failed", evidence=f"{_ranks(idle)} {_verb(idle)} the method none")
    evidence = (
        f"{local} local tokens x cp {parallel.cp} = {wanted:,} on all {len(parallel.ranks)} ranks, "
        f"by {parallel.ranks[0].method}"
    )
    return Check(name="split", outcome="passed", evidence=evidence)


def _traffic(parallel: Reading, steps: int, step_bytes: Sequence[int] | None) -> Check:
    """Whether each rank sent in every step what the formula of the planner asks of the method and its place."""
    told = [rank for rank in parallel.ranks if len(rank.sent_bytes) >= steps]
    if step_bytes is None or len(told) < len(parallel.ranks):
        mute = [rank.rank for rank in parallel.ranks if rank not in told]
        why = f"{_ranks(mute)} did not say what it sent" if mute else "the model's shape is not known here"
        return Check(name="traffic", outcome="not seen", evidence=why)
    for step in range(1, steps + 1):
        off = [rank for rank in told if rank.sent_bytes.get(step) != step_bytes[rank.rank]]
        if off:
            sent, wanted = off[0].sent_bytes.get(step, 0), step_bytes[off[0].rank]
            named = _ranks([rank.rank for rank in off])
            evidence = f"step {step}: {named} sent {format_bytes(sent)} of {format_bytes(wanted)}"
            return Check(name="traffic", outcome="failed", evidence=evidence)
    evidence = f"{_range(step_bytes)} a step from every rank, as the formula has it"
    return Check(name="traffic", outcome="passed", evidence=evidence)


def _range(sizes: Sequence[int]) -> str:
    """`512 KiB`, or `512 KiB to 640 KiB` where a rank's bytes depend on its place."""
    low, high = format_bytes(min(sizes)), format_bytes(max(sizes))
    return low if low == high else f"{low} to {high}"


def _values(name: str, pairs: tuple[StepPair, ...], tolerance: Tolerance) -> Check:
    """The loss, or the gradient norm, over all steps."""
    label = name.replace("grad_", "gradient ")
    found = {pair.step: pair.loss_difference if name == "loss" else pair.norm_difference for pair in pairs}
    for step, difference in found.items():
        limit: float = getattr(tolerance.of(step), name)
        if difference is None:
            return Check(name=name, outcome="failed", evidence=f"step {step}: a {label} is missing or no number")
        if difference > limit:
            evidence = f"step {step}: the {label} is off by {difference:.1e}, above {limit:.0e}"
            return Check(name=name, outcome="failed", evidence=evidence)
    first, *later = (difference or 0.0 for difference in found.values())
    evidence = f"{first:.1e} apart in step 1, within {getattr(tolerance.first, name):.0e}"
    if later:
        evidence += f"; at most {max(later):.1e} later, within {getattr(tolerance.later, name):.0e}"
    return Check(name=name, outcome="passed", evidence=evidence)


def _ranks(ranks: list[int]) -> str:
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {', '.join(map(str, ranks))}"


def _verb(ranks: list[int]) -> str:
    return "has" if len(ranks) == 1 else "have"
