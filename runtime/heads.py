"""Over how many ranks the heads of attention may be exchanged: those that give each rank whole heads, alike.

Each of u ranks computes heads / u query heads over the ranks' tokens together. K/V heads are shared out in the same
way, or, where there are fewer of them than ranks, repeated for the ranks whose queries need the same one.
"""

import json
from pathlib import Path
from typing import TypeGuard


def exchanges(heads: int, kv_heads: int, degree: int) -> bool:
    """Whether `degree` divides the query heads, and divides the K/V heads or is a multiple of them.

    32:8 heads: 1, 2, 4, 8, 16 and 32; 28:4 heads: 1, 2, 4 and 28.
    """
    return heads % degree == 0 and (kv_heads % degree == 0 or degree % kv_heads == 0)


def check_degree(heads: int, kv_heads: int, degree: int) -> str | None:
    """Why heads cannot be exchanged over `degree` ranks; None where they can.

    28:4 heads over 8 ranks: `28 query heads do not divide over 8 ranks`.
    """
    if heads % degree:
        return f"{heads} query heads do not divide over {degree} ranks"
    if not exchanges(heads, kv_heads, degree):
        return f"{kv_heads} K/V heads neither divide over {degree} ranks nor repeat evenly on them"
    return None


def usp_degrees(cp: int, shape: tuple[int, int] | None) -> tuple[int, ...]:
    """The degrees that leave a ring: proper divisors of `cp` above 1 that the heads allow, in rising order.

    cp 8 and 32:8 heads: 2 and 4. Without a `shape`, heads and K/V heads, every proper divisor counts.
    """
    return tuple(degree for degree in range(2, cp) if cp % degree == 0 and (shape is None or exchanges(*shape, degree)))


def read_heads(folder: Path) -> tuple[int, int] | None:
    """Heads and K/V heads in `folder`/config.json; None where they cannot be read, which model_shape tells in full."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    heads = config.get("num_attention_heads") if isinstance(config, dict) else None
    kv_heads = (config.get("num_key_value_heads") or heads) if heads else None
    return (heads, kv_heads) if _is_count(heads) and _is_count(kv_heads) else None


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 1
