"""The config under check: its values, where they stand, and what it is meant for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpadvisor.check.finding import Finding
from cpadvisor.model import ModelSpec
from cpadvisor.write.split import SIZE_KEYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One file, as every rule sees it."""

    values: Mapping[str, Any]
    lines: Mapping[str, int]
    """Line of each top-level key, counted from 1."""
    engine: str
    gpus: int | None
    """GPUs that it is meant for; None where nobody said."""
    model: ModelSpec | None
    folder: Path
    """Relative paths of the file start here."""

    @property
    def is_axolotl(self) -> bool:
        """Whether axolotl, of any version, is to train it."""
        return self.engine != "cpadvisor"

    def degree(self, axis: str) -> int:
        """The size of an axis; 1 where it is missing or no whole number."""
        value = self.values.get(SIZE_KEYS[axis])
        if value is None and axis == "cp":
            value = self.values.get("sequence_parallel_degree") or self.block("context_parallel").get("size")
        return value if type(value) is int and value > 0 else 1

    @property
    def product(self) -> int:
        """GPUs that the sizes multiply to (card row F1)."""
        return self.degree("dp_replicate") * self.degree("dp_shard") * self.degree("tp") * self.degree("cp")

    def block(self, key: str) -> Mapping[str, Any]:
        """A nested mapping; empty where there is none."""
        value = self.values.get(key)
        return value if isinstance(value, Mapping) else {}

    def fsdp(self, key: str) -> Any:
        """A value of fsdp_config, with or without the old `fsdp_` prefix."""
        block = self.block("fsdp_config")
        return block.get(key, block.get(f"fsdp_{key}"))

    def number(self, key: str) -> float | None:
        """A number; None where the key is missing or something else."""
        value = self.values.get(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def attention(self) -> str | None:
        """The attention kernel that the file asks for; the old booleans count."""
        named = self.values.get("attn_implementation")
        if isinstance(named, str):
            return named
        old = {"flash_attention": "flash_attention_2", "sdp_attention": "sdpa", "eager_attention": "eager"}
        return next((kernel for flag, kernel in old.items() if self.values.get(flag) is True), None)

    def find(self, rule: str, severity: str, key: str | None, message: str, fix: str | None = None) -> Finding:
        """A finding whose message starts with the line of its key."""
        line = self.lines.get((key or "").split(".")[0])
        place = f"line {line}: " if line is not None else ""
        return Finding(rule=rule, severity=severity, key=key, message=f"{place}{message}", fix=fix)
