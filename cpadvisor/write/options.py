"""What the user may fix of a written config beside the plan."""

from dataclasses import dataclass

TINY_STEPS = 50
"""Steps of the model `tiny` where none are asked for: seconds on a laptop."""

PRETRAINED_LEARNING_RATE = 2e-5  # the card's value for fine-tuning, row C2
RANDOM_WEIGHTS_LEARNING_RATE = 1e-3
WARMUP_SHARE = 0.1  # row C8 keeps one of the pair warmup_steps and warmup_ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """Paths are absolute, or relative to the folder of the config."""

    data: str | None = None
    """A text or JSONL file; None takes the default of the engine."""
    steps: int | None = None
    output_dir: str | None = None
    path: str | None = None
    """Where the config will lie, absolute: the command names it and the default output_dir lies beside it."""
    bf16: bool | None = None
    """Whether the GPU's tensor cores know bf16; None means: unless the node is `cpu`."""
