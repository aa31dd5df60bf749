"""One file becomes two configs that differ in context parallelism alone: the file's cp, and 1.

Everything else stays: sizes of the other axes, seed, data, batch, schedule, steps. Neither saves anything.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cpadvisor.errors import InfeasibleError, UsageError
from cpadvisor.launch.jobfile import SIZE_KEYS, JobFile, with_absolute_paths
from cpadvisor.parity.room import Room
from cpadvisor.plan.engines import CPADVISOR
from cpadvisor.plan.layout import require_even_chunks
from cpadvisor.units import format_bytes, format_tokens
from cpadvisor.write.edit import REMOVE, Change, edited

SAVING_KEYS = ("save_steps", "saves_per_epoch", "save_total_limit", "resume_from_checkpoint")
LIGHTEST = CPADVISOR.recompute_policies[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two configs, ready to be started one after the other."""

    job: JobFile
    """The user's file."""
    cp: int
    sequence_len: int
    steps: int
    parallel: str
    """The text of the config at the file's cp."""
    whole: str
    """The text of the config at cp 1."""
    notes: tuple[str, ...] = ()
    """What was changed beside cp, for the user to read."""


def make_pair(job: JobFile, *, steps: int, sequence_len: int | None = None, room: Room | None = None) -> Pair:
    """The two configs of a file. Without `sequence_len` the file's length, or the longest that fits at cp 1.

    Raises UsageError for a file of another trainer, without context parallelism, or for no steps; LayoutError for a
    length that does not split; InfeasibleError where nothing fits at cp 1.
    """
    cp = _context_ranks(job)
    if steps < 1:
        raise UsageError(f"--steps {steps} compares nothing; use 1 or more")
    tokens, recompute, notes = _length(job, cp, sequence_len, room)
    require_even_chunks(tokens, cp)
    text = with_absolute_paths(job)
    both = [*_shortened(steps, tokens), *_saves_nothing(job)]
    return Pair(
        job=job,
        cp=cp,
        sequence_len=tokens,
        steps=steps,
        parallel=edited(text, both, name=str(job.path)),
        whole=edited(text, [*both, *_whole(job, cp, recompute)], name=str(job.path)),
        notes=notes,
    )


def _context_ranks(job: JobFile) -> int:
    if job.engine != "cpadvisor":
        raise UsageError(
            f"{job.path} is for axolotl (it has no cpadvisor block), and parity runs the bundled trainer; "
            "write one with `cpadvisor write --engine cpadvisor -o FILE`"
        )
    cp = job.layout["cp"]
    if cp == 1:
        key = SIZE_KEYS["cp"]
        raise UsageError(
            f"{job.path}: {key} is 1, so there is nothing to compare; the nearest that works is {key}: 2, "
            "on twice the processes"
        )
    return cp


def _length(job: JobFile, cp: int, asked: int | None, room: Room | None) -> tuple[int, str | None, tuple[str, ...]]:
    """Tokens, the policy that cp 1 needs where it is not the file's, and what to tell of both."""
    given = job.values.get("sequence_len")
    tokens = asked or (given if type(given) is int else 0)
    if asked is not None or room is None or not tokens or room.fits(tokens, _policy(job)):
        return tokens, None, ()
    needs = format_bytes(room.peak_bytes(tokens, _policy(job)))
    has = f"and a GPU has {format_bytes(room.limit_bytes)}"
    if room.fits(tokens, LIGHTEST):
        note = (
            f"at cp 1 the file's recomputation needs {needs} {has}: cp 1 recomputes every layer, with the same result"
        )
        return tokens, LIGHTEST, (note,)
    longest = room.longest(LIGHTEST, unit=2 * cp, most=tokens)
    if not longest:
        least = format_bytes(room.peak_bytes(2 * cp, LIGHTEST))
        raise InfeasibleError(
            f"{room.model.name} does not fit at cp 1 at any length: {least} over dp_shard {room.dp_shard}, {has}; "
            "raise dp_shard_size, or compare a smaller model of the same family, which runs the same code"
        )
    least = format_bytes(room.peak_bytes(tokens, LIGHTEST))
    note = (
        f"{format_tokens(tokens)} tokens need {least} at cp 1, {has}: both runs take {longest:,}, "
        "the longest that fits; --seq asks for another"
    )
    return longest, LIGHTEST, (note,)


def _policy(job: JobFile) -> str:
    """The policy of the file that keeps most; one of several layers decides."""
    asked = job.own.get("recompute")
    if isinstance(asked, dict) and asked:
        return min((policy for policy, layers in asked.items() if layers), key=_order, default=LIGHTEST)
    return LIGHTEST if job.values.get("gradient_checkpointing") else CPADVISOR.recompute_policies[0]


def _order(policy: str) -> int:
    policies = CPADVISOR.recompute_policies
    return policies.index(policy) if policy in policies else len(policies)


def _shortened(steps: int, tokens: int) -> Iterator[Change]:
    yield Change(key="max_steps", value=steps)
    yield Change(key="sequence_len", value=tokens)


def _saves_nothing(job: JobFile) -> Iterator[Change]:
    yield Change(key="save_strategy", value="no")
    yield from (Change(key=key, value=REMOVE) for key in SAVING_KEYS if key in job.values)
    if "prediction" in job.own:  # it is of another length and another number of steps
        yield Change(key="cpadvisor.prediction", value=REMOVE)


def _whole(job: JobFile, cp: int, recompute: str | None) -> Iterator[Change]:
    """cp 1 on the first rank of each context-parallel group; the other sizes stay."""
    yield Change(key=SIZE_KEYS["cp"], value=1)
    if "method" in job.own:
        yield Change(key="cpadvisor.method", value="none")
    if "ulysses_degree" in job.own:
        yield Change(key="cpadvisor.ulysses_degree", value=REMOVE)
    if job.rank_order is not None:
        yield Change(key="cpadvisor.rank_order", value=list(job.rank_order[::cp]))
    if recompute is not None and isinstance(job.own.get("recompute"), dict):
        layers = sum(job.own["recompute"].values())
        yield Change(key="cpadvisor.recompute", value={recompute: layers})
    elif recompute is not None:
        yield Change(key="gradient_checkpointing", value=True)
