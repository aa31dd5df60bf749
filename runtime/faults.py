"""Faults that a test plants on purpose: the environment variable CPADVISOR_FAULT, and nothing else, asks for one.

`KIND` or `KIND:key=value,…`; `rank` is a global rank, all ranks without it, and
`step` counts from 1, where 0 is the time in which the model is built:

- drop-exchange:rank=1         the rank's ring uses its own K/V in place of what arrives
- exception:rank=1,step=3      raises
- nan:step=3                   the rank's part of the loss is no number
- out-of-memory:rank=0,step=2  asks for more memory than there is
- hang:rank=1,step=3           sleeps for ever

A planted fault is always announced by a warning event. An unknown text is refused.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.errors import ConfigError
from runtime.settings import Sizes

VARIABLE = "CPADVISOR_FAULT"
RULE = "planted_fault"

FIRST_STEP = {"exception": 0, "out-of-memory": 0, "hang": 0, "nan": 1}
"""From which step on a fault can strike."""
WHOLE_RUN = ("drop-exchange",)
KINDS = (*WHOLE_RUN, *FIRST_STEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, as asked for."""

    text: str
    kind: str
    rank: int | None
    """None is every rank."""
    step: int | None
    """None for a fault that lasts the whole run."""

    @property
    def announcement(self) -> str:
        """What the warning says."""
        return f"{VARIABLE} is {self.text}: this run fails or errs on purpose; unset it for a true one"

    def is_of(self, rank: int) -> bool:
        """Whether a rank has it."""
        return self.rank is None or self.rank == rank


def asked(environ: Mapping[str, str], sizes: Sizes) -> Fault | None:
    """The fault that the environment asks for. Raises ConfigError for a text that names none."""
    text = environ.get(VARIABLE)
    return parse(text, sizes) if text else None


def parse(text: str, sizes: Sizes) -> Fault:
    """A fault from its text. Raises ConfigError with every reason why it is none."""
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise ConfigError(VARIABLE, [f"{text!r}: unknown fault {kind!r}; use one of {', '.join(KINDS)}"])
    problems: list[str] = []
    values: dict[str, int] = {}
    for pair in rest.split(",") if rest or text.endswith(":") else ():
        _read_pair(pair, values, problems)
    _check_rank(values.get("rank"), sizes, problems)
    _check_step(kind, values.get("step"), problems)
    if kind == "drop-exchange" and sizes.cp == 1:
        problems.append("drop-exchange needs context_parallel_size above 1: a ring of one exchanges nothing")
    if problems:
        raise ConfigError(VARIABLE, [f"{text!r}: {problem}" for problem in problems])
    return Fault(text=text, kind=kind, rank=values.get("rank"), step=values.get("step"))


def _read_pair(pair: str, values: dict[str, int], problems: list[str]) -> None:
    key, _, value = pair.partition("=")
    if key not in ("rank", "step"):
        problems.append(f"{pair!r} is neither rank=N nor step=N")
    elif key in values:
        problems.append(f"{key} stands twice; keep one of them")
    elif not (value.isascii() and value.isdigit() and len(value) < 10):
        problems.append(f"{key} {value!r} is not a whole number from 0 to 999999999")
    else:
        values[key] = int(value)


def _check_rank(rank: int | None, sizes: Sizes, problems: list[str]) -> None:
    if rank is not None and rank >= sizes.world:
        problems.append(f"rank {rank} is not one of {sizes.world}; ranks are 0 to {sizes.world - 1}")


def _check_step(kind: str, step: int | None, problems: list[str]) -> None:
    if kind in WHOLE_RUN:
        if step is not None:
            problems.append(f"{kind} lasts the whole run; remove step={step}")
    elif step is None:
        problems.append(f"{kind} needs the step that it strikes in; write step={max(FIRST_STEP[kind], 1)}")
    elif step < FIRST_STEP[kind]:
        problems.append(f"{kind} has no step {step}; use step={FIRST_STEP[kind]}")


def strike(fault: Fault | None, *, step: int, device: torch.device) -> None:
    """Raise, hang or run out of memory if `fault`, which is of this rank, does so in `step`."""
    if fault is None or fault.step != step:
        return
    if fault.kind == "exception":
        raise RuntimeError(f"planted fault {fault.text}")
    if fault.kind == "out-of-memory":
        _run_out_of_memory(device)
    if fault.kind == "hang":
        _hang()


def spoil(fault: Fault | None, loss: Tensor, *, step: int) -> Tensor:
    """The loss, or NaN in its place where that is the fault."""
    if fault is None or fault.kind != "nan" or fault.step != step:
        return loss
    return torch.full_like(loss, float("nan"))


def _run_out_of_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.empty(torch.cuda.get_device_properties(device).total_memory, dtype=torch.uint8, device=device)
    # A CPU has no such limit: the words are those of torch 2.11 on a GPU of 8 GiB.
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB of which 1.00 GiB is "
        "free. Including non-PyTorch memory, this process has 7.00 GiB memory in use. Of the allocated memory 6.00 GiB "
        "is allocated by PyTorch, and 512.00 MiB is reserved by PyTorch but unallocated."
    )


def _hang() -> None:
    while True:
        time.sleep(3600)
