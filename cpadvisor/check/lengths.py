"""Lengths: whether the sequence splits, fits the model's positions, and the data."""

from collections.abc import Iterator

from cpadvisor.check.finding import Finding
from cpadvisor.check.subject import Config
from cpadvisor.plan.layout import chunk_neighbours


def length_rules(config: Config) -> Iterator[Finding]:
    """Card row F3, and the positions that the model was made for."""
    tokens = config.values.get("sequence_len")
    if type(tokens) is not int or tokens < 1:
        return
    yield from _split(config, tokens)
    yield from _positions(config, tokens)


def _split(config: Config, tokens: int) -> Iterator[Finding]:
    """The bundled ring needs 2 x cp equal chunks; axolotl pads (ringmaster/shard.py:34)."""
    cp = config.degree("cp")
    chunks = 2 * cp
    if cp == 1 or tokens % chunks == 0:
        return
    below, above = chunk_neighbours(tokens, cp)
    fix = f"write sequence_len: {below} or {above}"
    uneven = f"sequence_len {tokens} does not split into {chunks} equal chunks (context_parallel_size {cp})"
    changes = {"sequence_len": _nearest(config, tokens, below, above)}
    if config.is_axolotl:
        padding = f"{uneven}: axolotl pads it" + ("" if tokens % cp else " only where it balances the chunks of a ring")
        yield config.find("F3", "warning", "sequence_len", padding, fix, changes)
    else:
        yield config.find("F3", "error", "sequence_len", uneven, fix, changes)


def _nearest(config: Config, tokens: int, below: int, above: int) -> int:
    """The nearer of two lengths; the lower one where the upper is beyond the model's positions, or as near."""
    most = config.model.max_positions if config.model is not None else above
    return above if above - tokens < tokens - below and above <= most else below


def _positions(config: Config, tokens: int) -> Iterator[Finding]:
    model = config.model
    if model is None or tokens <= model.max_positions:
        return
    message = f"sequence_len {tokens} exceeds the {model.max_positions} positions that {model.name} was made for"
    cp = config.degree("cp")
    longest = chunk_neighbours(model.max_positions, cp)[0] if cp > 1 else model.max_positions
    fix = f"write sequence_len: {longest}, or count on training the model to longer positions"
    yield config.find("length-positions", "warning", "sequence_len", message, fix, {"sequence_len": longest})
