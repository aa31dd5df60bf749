"""Context parallelism in axolotl: which backend the settings give, and whether its kernel and heads allow it."""

from collections.abc import Iterator
from typing import Any

from cpadvisor.check.finding import Finding
from cpadvisor.check.subject import Config
from cpadvisor.plan.layout import divisors
from cpadvisor.write.edit import REMOVE

RING_KERNELS = ("flash_attention_2", "flash_attention_3", "flash_attention_4")
"""A ring merges by log-sum-exp, which these give out; sdpa under a ring is forward-only (plugin.py:208-219)."""


def context_rules(config: Config) -> Iterator[Finding]:
    """The `context_parallel` block against the sizes, the heads and the kernel (axolotl 0.20 and newer)."""
    cp, block = config.degree("cp"), config.block("context_parallel")
    if not config.is_axolotl or cp == 1:
        return
    if config.attention == "eager":
        message = "attn_implementation eager cannot be split over context_parallel_size"
        changes = config.with_attention("flash_attention_2")
        fix = "write flash_attention_2 or sdpa"
        yield config.find("attention-eager", "error", "attn_implementation", message, fix, changes)
    yield from _agreement(config, cp, block.get("size"))
    yield from _degrees(config, cp)
    yield from _heads_and_kernel(config, cp)
    yield from _deepspeed(config)
    if config.values.get("use_dft") or config.values.get("use_eaft"):
        key = "use_dft" if config.values.get("use_dft") else "use_eaft"
        message = f"{key} is refused with context_parallel_size {cp}"
        yield config.find("cp-loss", "error", key, message, f"remove {key}", {key: REMOVE})


def _agreement(config: Config, cp: int, size: Any) -> Iterator[Finding]:
    flat = config.values.get("context_parallel_size")
    if size is not None and flat is not None and size != flat:
        message = f"context_parallel.size {size} and context_parallel_size {flat} differ"
        changes = {"context_parallel.size": cp}
        yield config.find("cp-block", "error", "context_parallel.size", message, f"write both as {cp}", changes)


def _degrees(config: Config, cp: int) -> Iterator[Finding]:
    block = config.block("context_parallel")
    ulysses, ring = block.get("ulysses_size"), block.get("ring_size")
    for key, value in (("ulysses_size", ulysses), ("ring_size", ring)):
        if value is not None and (type(value) is not int or value < 1 or cp % value):
            fits = ", ".join(map(str, divisors(cp)))
            message = f"context_parallel.{key} {value!r} does not divide context_parallel_size {cp}"
            full = f"context_parallel.{key}"
            fix = f"remove it, or use one of {fits}"
            yield config.find("cp-block", "error", full, message, fix, {full: REMOVE})
    if isinstance(ulysses, int) and isinstance(ring, int) and ulysses * ring != cp:
        message = f"ulysses_size {ulysses} x ring_size {ring} is not context_parallel_size {cp}"
        fits = max(cp // max(ulysses, 1), 1)
        changes = {"context_parallel.ring_size": fits}
        yield config.find(
            "cp-block", "error", "context_parallel.ring_size", message, f"write ring_size: {fits}", changes
        )


def _heads_and_kernel(config: Config, cp: int) -> Iterator[Finding]:
    model, block = config.model, config.block("context_parallel")
    backend = block.get("backend", "auto")
    if model is not None:
        kv_heads = max(model.kv_heads // config.degree("tp"), 1)
        ulysses = block.get("ulysses_size") or cp
        if backend == "ulysses" and isinstance(ulysses, int) and kv_heads % ulysses:
            fits = max(size for size in divisors(kv_heads) if size <= ulysses)
            message = f"backend ulysses over {ulysses} ranks, but each has {kv_heads} KV heads of {model.name} to share"
            fix = f"write backend: usp, or context_parallel_size: {fits}"
            changes = {"context_parallel.backend": "usp", "context_parallel.ulysses_size": REMOVE}
            if config.attention not in RING_KERNELS:
                changes |= config.with_attention("flash_attention_2")
            yield config.find("ulysses-heads", "error", "context_parallel.backend", message, fix, changes)
        backend = ("ulysses" if kv_heads % cp == 0 else "usp") if backend == "auto" else backend
    kernel = config.attention or "sdpa"
    if backend in ("ring", "usp") and kernel not in RING_KERNELS:
        message = f"context parallelism becomes {backend} here, whose ring part cannot train over {kernel}"
        fix = "write attn_implementation: flash_attention_2"
        changes = config.with_attention("flash_attention_2")
        yield config.find("ring-kernel", "error", "attn_implementation", message, fix, changes)
    yield from _balance(config, backend, kernel)


def _balance(config: Config, backend: str, kernel: str) -> Iterator[Finding]:
    balance = config.block("context_parallel").get("load_balance")
    if balance not in ("head_tail", "distflash"):
        return
    reasons = {
        f"backend is {backend}, not ring": backend != "ring",
        "documents are packed": config.values.get("sample_packing") is True,
        f"the kernel is {kernel}, not flash_attention_2": kernel != "flash_attention_2",
        "rotate_method is written": config.block("context_parallel").get("rotate_method") is not None,
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        message = f"load_balance {balance} is for a plain ring alone: {'; '.join(found)}"
        key = "context_parallel.load_balance"
        yield config.find("cp-balance", "error", key, message, "write load_balance: auto", {key: "auto"})


def _deepspeed(config: Config) -> Iterator[Finding]:
    backend = config.block("context_parallel").get("backend", "auto")
    if config.values.get("deepspeed") and backend not in ("auto", "ulysses"):
        message = f"deepspeed splits sequences by all-to-all alone, not by {backend}"
        key = "context_parallel.backend"
        yield config.find("deepspeed-cp", "error", key, message, "write backend: ulysses", {key: "ulysses"})
