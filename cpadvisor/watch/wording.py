"""What kind of failure a line of a log or an error message tells of."""

import re
from collections.abc import Iterable

_WORDS = {
    "out_of_memory": (
        "out of GPU memory",
        "CUDA out of memory",
        "CUDA error: out of memory",
        r"Cuda failure \d+ 'out of memory'",
        r"\bOutOfMemoryError\b",
        "_STATUS_ALLOC_FAILED",
    ),
    "disk_full": ("No space left on device", "ENOSPC", "Disk quota exceeded", "EDQUOT"),
    "port_taken": ("EADDRINUSE", "[Aa]ddress already in use"),
    "no_torch": (r"No module named '?torch\b",),
    "host_memory": ("Cannot allocate memory", "can't allocate memory", r"\bMemoryError\b"),
    "not_a_number": (r"\b(?:loss|gradient norm)\b.* (?:is|are) (?:nan|inf|-inf|not a number|not finite)\b",),
}
"""What torch, NCCL, the C library, Python and the bundled trainer say."""
_KINDS = {kind: re.compile("|".join(words)) for kind, words in _WORDS.items()}
_PORT = re.compile(r"\bport:? (\d{1,5})\b|', (\d{1,5})\)|(?:\d+(?:\.\d+){3}|\]):(\d{1,5})\b")
_STEP = re.compile(r"\bstep (\d+)\b")
_SIGNAL = re.compile(r"SignalException: Process \d+ got signal: (\d+)")
_UNWRITTEN = re.compile(
    r"cannot write (?:the model to )?(/.+?)(?: \(|: )|(?:No space left on device|Disk quota exceeded): '(/[^']+)'"
)
"""What the bundled trainer says, and Python."""
_SHM = "/dev/shm"
_LOST_CONNECTION = re.compile(
    r"Connection (?:reset|closed|refused)|Broken pipe|remote process exited|peer (?:gone|left)"
)
"""What gloo and NCCL say of a peer that is no more."""


def kind_of(text: str) -> str | None:
    """The kind that a line names; None for any other error."""
    return next((kind for kind, pattern in _KINDS.items() if pattern.search(text)), None)


def first_of_kind(lines: Iterable[str], kind: str) -> str | None:
    """The first line that tells of this kind."""
    return next((line for line in lines if kind_of(line) == kind), None)


def port_in(line: str) -> int | None:
    """The port that a line about a taken address names: `port: 29500, … EADDRINUSE`, `('127.0.0.1', 29500)`."""
    found = _PORT.search(line)
    return None if found is None else int(next(filter(None, found.groups())))


def step_in(text: str) -> int | None:
    """The step that a message names: `loss is nan and gradient norm nan at step 3; …`."""
    found = _STEP.search(text)
    return int(found[1]) if found else None


def signal_in(lines: Iterable[str]) -> int | None:
    """The signal that ended torchrun, where its own log says so."""
    return next((int(found[1]) for line in lines if (found := _SIGNAL.search(line))), None)


def is_lost_connection(text: str) -> bool:
    """Whether a rank failed because another one was gone."""
    return _LOST_CONNECTION.search(text) is not None


def unwritten_path(lines: Iterable[str]) -> str | None:
    """The first file or folder that could not be written: `cannot write /mnt/out/model.safetensors: No space left`."""
    found = next((found for line in lines if (found := _UNWRITTEN.search(line))), None)
    return None if found is None else next(filter(None, found.groups()))


def is_about_shared_memory(text: str) -> bool:
    """Whether the file system that is full is the one in memory, which NCCL and data loaders use."""
    return _SHM in text or "/torch_" in text
