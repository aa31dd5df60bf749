"""How often each variant of a row is run, and which are left out of long rows, so that a whole run takes minutes.

All of it follows from the shape and from the row before, which every rank knows: all run the same calls.
"""

from collections.abc import Mapping

FLOOR = {"ours": 5, "peer": 5, "ideal": 3}
"""Repeats of a role however long one takes. An ideal exchanges nothing and hardly varies."""
WORK_FLOPS = 2.5e15
"""Work of one rank that is enough for a median: about 4 s of an H100 in bf16."""
LONG_CALL_FLOPS = 5e13
"""From about 0.1 s on, the millisecond in which the host gets ahead of its GPU is not seen."""
WARM_UPS = 3
ROUNDS = 3
"""Turns of each variant: a drift of the clock rate hits all variants of a row alike."""

MARGINS = ((16_384, None), (32_768, 0.25), (65_536, 0.05), (131_072, 0.02))
"""Up to so many tokens: the share by which a variant may have been slower than the best of its role in the row before,
None for any. Above, the best alone goes on. Every step costs four times the one before."""


def repeats(role: str, call_flops: float, wanted: int) -> int:
    """Timed calls of a pass: as many as are wanted, fewer of long ones, `call_flops` being what one rank computes.

    Both passes of 131,072 tokens with 32 heads of 128 on 2 ranks are 2.46e14 FLOP a rank: 10; of 262,144 tokens 5.
    """
    return min(wanted, max(FLOOR[role], int(WORK_FLOPS / call_flops)))


def warm_ups(call_flops: float) -> int:
    """Untimed calls of both passes, the first with its compilation. A long call needs one."""
    return 1 if call_flops > LONG_CALL_FLOPS else WARM_UPS


def lead_in(call_flops: float) -> int:
    """Untimed calls at the start of a turn, in which the host gets ahead of its GPU."""
    return 0 if call_flops > LONG_CALL_FLOPS else 1


def turns(count: int) -> list[int]:
    """Repeats of each turn: 10 are 4, 3 and 3."""
    rounds = min(ROUNDS, count)
    return [count // rounds + (turn < count % rounds) for turn in range(rounds)]


def margin(tokens: int) -> float | None:
    """What a row of that length asks of its variants: 0.05 is within 5 % of the best, None is nothing."""
    for longest, allowed in MARGINS:
        if tokens <= longest:
            return allowed
    return 0.0


def left_out(tokens: int, row_before: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """The variants that a row does without, each with its reason; `row_before` gives seconds by role and variant."""
    allowed = margin(tokens)
    if allowed is None:
        return {}
    reasons: dict[str, str] = {}
    for seconds in row_before.values():
        best = min(seconds.values(), default=0.0)
        for name, own in seconds.items():
            if own > best * (1 + allowed):
                reasons[name] = f"left out: {own / best:.2f} x the best in a shorter row"
    return reasons
