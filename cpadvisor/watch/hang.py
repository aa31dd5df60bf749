"""Which rank the others wait for: one that is halted, one that does not answer, the one furthest behind, the odd one.

The step of a rank, the exchanges that it has begun and the frames of its main
thread come through its door. All ranks begin the same exchanges in one order: who
has begun fewer stopped first. On a CPU the others then wait inside one; on GPUs
their hosts run ahead and wait wherever they next read a value of the device.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cpadvisor.units import format_seconds
from cpadvisor.watch.door import Answer
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.view import RankView

MAX_EVIDENCE = 10
QUIET_PHASES = ("build", "save")
"""Phases of a rank (runtime/progress.py) that say nothing for minutes and come to an end by themselves."""
_FRAMES = 4
_WAITS = ("torch/distributed/", "runtime/comm.py")
"""Files whose frame, innermost, means that a rank waits for others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """What is known of a run that does not go on."""

    name: str
    """How commands name the run."""
    writes_events: bool = True
    """Where it writes none, its logs are what is silent."""
    again: str
    """The command that starts it again once it has ended."""
    resumes: str
    """Where it then goes on, in words."""
    ranks: Sequence[RankView]
    silent_s: float
    asked: frozenset[int] = frozenset()
    """Ranks whose doors were asked."""
    answers: Mapping[int, Answer]


def is_busy(answers: Mapping[int, Answer]) -> bool:
    """Whether every rank that answers builds the model or writes it."""
    return bool(answers) and all(answer.phase in QUIET_PHASES for answer in answers.values())


def find_hang(hang: Hang) -> Failure:
    """Who lags, with its frames, and how the run ends or goes on."""
    halted = [rank for rank in hang.ranks if rank.halted]
    if halted:
        return _halted(hang, halted)
    return _silent(hang) if hang.writes_events else _silent_logs(hang)


def _halted(hang: Hang, halted: list[RankView]) -> Failure:
    names, pids = _names(rank.rank for rank in halted), " ".join(str(rank.pid) for rank in halted)
    return Failure(
        kind="hung",
        headline=f"{names} {'is' if len(halted) == 1 else 'are'} halted, by SIGSTOP or a debugger; the others wait",
        rank=halted[0].rank,
        step=halted[0].step,
        evidence=tuple(f"rank {rank.rank}: process {rank.pid} is stopped (/proc/{rank.pid}/stat)" for rank in halted)[
            :MAX_EVIDENCE
        ],
        mend="let it go on; where a debugger holds it, continue or detach there",
        command=f"kill -CONT {pids}",
    )


def _silent_logs(hang: Hang) -> Failure:
    return Failure(
        kind="hung",
        headline=f"its logs have been silent for {format_seconds(hang.silent_s)}: it hangs, or a step takes that long",
        mend=f"look at its last lines; where it hangs, end it with `cpadvisor stop {hang.name}` and start it again "
        f"with `{hang.again}`: {hang.resumes}",
        command=f"cpadvisor logs {hang.name} --rank 0",
    )


def _silent(hang: Hang) -> Failure:
    lagging, why = _lagging(hang)
    since = f"no rank has given a sign of life for {format_seconds(hang.silent_s)}"
    first = lagging[0] if lagging else None
    return Failure(
        kind="hung",
        headline=f"{since}; {why}",
        rank=first,
        step=_step(hang, first) if first is not None else max(map(_number, hang.ranks), default=0) or None,
        evidence=tuple(_evidence(hang, lagging))[:MAX_EVIDENCE],
        mend=f"end it, then start it again with `{hang.again}`: {hang.resumes}",
        command=f"cpadvisor stop {hang.name}",
    )


def _lagging(hang: Hang) -> tuple[tuple[int, ...], str]:
    """The ranks that the others wait for, and what shows it; none where nothing tells them apart."""
    dumb = tuple(sorted(hang.asked - set(hang.answers)))
    if dumb and hang.answers:
        return dumb, f"{_names(dumb)} {'does' if len(dumb) == 1 else 'do'} not answer"
    behind = _behind(hang)
    if behind:
        return behind, f"{_names(behind)} {_lag(behind)} at step {_step(hang, behind[0])}"
    fewest = _fewest(hang)
    if fewest:
        return fewest, f"{_names(fewest)} {_lag(fewest)}: {_exchanges(hang, fewest)}"
    odd = _odd(hang.answers)
    if odd:
        return odd, f"the others wait for {_names(odd)}"
    if hang.asked and not hang.answers:
        return (), "no rank answers"
    if hang.answers:
        return (), "all wait for each other: look at the GPUs and the links between them"
    return (), "nothing tells which one the others wait for"


def _behind(hang: Hang) -> tuple[int, ...]:
    """Ranks at the lowest step, where not all are at the same."""
    steps = {rank.rank: step for rank in hang.ranks if (step := _step(hang, rank.rank)) is not None}
    lowest = min(steps.values(), default=0)
    behind = tuple(rank for rank, step in steps.items() if step == lowest)
    return behind if len(steps) == len(hang.ranks) and len(behind) < len(steps) else ()


def _fewest(hang: Hang) -> tuple[int, ...]:
    """Ranks that have begun the fewest exchanges, where every rank tells and not all tell the same."""
    begun = {rank: answer.exchanges for rank, answer in hang.answers.items() if answer.exchanges is not None}
    lowest = min(begun.values(), default=0)
    fewest = tuple(rank for rank, count in begun.items() if count == lowest)
    return fewest if len(begun) == len(hang.ranks) and len(fewest) < len(begun) else ()


def _exchanges(hang: Hang, fewest: tuple[int, ...]) -> str:
    """`it has begun 76 exchanges, others 92`; from the fewest to the most where they differ."""
    begun = sorted(answer.exchanges or 0 for rank, answer in hang.answers.items() if rank not in fewest)
    others = f"{begun[0]:,}" if begun[0] == begun[-1] else f"{begun[0]:,} to {begun[-1]:,}"
    who = "it has" if len(fewest) == 1 else "they have"
    return f"{who} begun {hang.answers[fewest[0]].exchanges:,} exchanges, the others {others}"


def _odd(answers: Mapping[int, Answer]) -> tuple[int, ...]:
    """Ranks that do not wait where others do; else those whose innermost frame is not that of most ranks."""
    stacks = {rank: answer.stack for rank, answer in answers.items() if answer.stack}
    moving = tuple(rank for rank, stack in stacks.items() if not _waits(stack))
    if moving and len(moving) < len(stacks):
        return moving
    places = Counter(stack[-1] for stack in stacks.values())
    most = places.most_common(1)[0] if places else ("", 0)
    return tuple(rank for rank, stack in stacks.items() if stack[-1] != most[0]) if most[1] * 2 > len(stacks) else ()


def _waits(stack: Sequence[str]) -> bool:
    return any(place in stack[-1] for place in _WAITS)


def _evidence(hang: Hang, lagging: tuple[int, ...]) -> list[str]:
    """The lagging ranks with their frames, then a line for each of the others."""
    others = [rank.rank for rank in hang.ranks if rank.rank not in lagging]
    lines: list[str] = []
    for rank in lagging:
        lines.append(_line(hang, rank))
        lines += [f"  {_short(frame)}" for frame in _stack(hang, rank)[-_FRAMES:]]
    return lines + [_line(hang, rank, with_place=True) for rank in others]


def _line(hang: Hang, rank: int, *, with_place: bool = False) -> str:
    answer, step, stack = hang.answers.get(rank), _step(hang, rank), _stack(hang, rank)
    parts = [f"rank {rank}:", "before its first step" if step is None else f"step {step}"]
    if answer is not None and answer.phase:
        since = "" if answer.since_s is None else f" for {format_seconds(answer.since_s)}"
        parts.append(f"in {answer.phase}{since}")
    if rank in hang.asked and answer is None:
        parts.append("does not answer")
    told = " ".join(parts)
    if answer is not None and answer.exchanges is not None:
        told += f", {answer.exchanges:,} exchanges begun" + ("," if with_place and stack else "")
    return f"{told} at {_short(stack[-1])}" if with_place and stack else told


def _stack(hang: Hang, rank: int) -> tuple[str, ...]:
    answer = hang.answers.get(rank)
    return () if answer is None else answer.stack


def _step(hang: Hang, rank: int) -> int | None:
    """By the rank's own word now, else by its last event."""
    answer = hang.answers.get(rank)
    if answer is not None and answer.step is not None:
        return answer.step
    return next((each.step for each in hang.ranks if each.rank == rank), None)


def _number(rank: RankView) -> int:
    return rank.step or 0


def _short(frame: str) -> str:
    """`/site-packages/torch/distributed/x.py:12 wait` is shown as `distributed/x.py:12 wait`."""
    path, _, rest = frame.rpartition(" ")
    return f"{'/'.join(path.split('/')[-2:])} {rest}".strip()


def _names(ranks: Iterable[int]) -> str:
    """`rank 1`, `ranks 1, 3`."""
    shown = [str(rank) for rank in ranks]
    return f"rank {shown[0]}" if len(shown) == 1 else f"ranks {', '.join(shown)}"


def _lag(ranks: tuple[int, ...]) -> str:
    return "lags" if len(ranks) == 1 else "lag"
