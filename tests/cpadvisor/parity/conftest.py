"""Files for the bundled trainer, and readings of runs made by hand."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cpadvisor.launch.jobfile import JobFile, read_job
from cpadvisor.parity.readings import RankReading, Reading

CONFIG = """\
base_model: tiny  # the smallest one
output_dir: ./out
sequence_len: 512
micro_batch_size: 1
gradient_accumulation_steps: 1
num_epochs: 1
learning_rate: 1e-3
optimizer: adamw_torch
save_strategy: steps
save_steps: 5
bf16: false
context_parallel_size: 2
dp_shard_size: 1
cpadvisor:
  method: ring
  model: tiny
  random_weights: true
  corpus: python-stdlib
  tokenizer: bytes
  rank_order: [1, 0]
  recompute: {none: 2}
  prediction: {peak_bytes: 2100, step_s: 0.2}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[[str], JobFile]:
    """A file with `CONFIG` where lines are replaced: `make_job("sequence_len: 512 -> sequence_len: 4096")`."""

    def make(*changes: str) -> JobFile:
        text = CONFIG
        for change in changes:
            old, new = change.split(" -> ")
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "job.yaml"
        path.write_text(text)
        return read_job(path)

    return make


@pytest.fixture
def make_reading() -> Callable[..., Reading]:
    """A run of as many ranks as cp, all alike but for what is given by rank."""

    def make(
        *,
        cp: int,
        loss: Mapping[int, float | None],
        grad_norm: Mapping[int, float | None] | None = None,
        sent: Mapping[int, Mapping[int, int]] | None = None,
        local: Mapping[int, int] | None = None,
        method: str | None = None,
        backend: str = "gloo",
        losses: Mapping[int, Mapping[int, float | None]] | None = None,
    ) -> Reading:
        ranks = tuple(
            RankReading(
                rank=rank,
                local_tokens=(local or {}).get(rank, 512 // cp),
                method=method or ("ring" if cp > 1 else "none"),
                backend=backend,
                loss=(losses or {}).get(rank, loss),
                grad_norm=grad_norm or dict.fromkeys(loss, 2.0),
                sent_bytes=(sent or {}).get(rank, {}),
            )
            for rank in range(cp)
        )
        return Reading(directory=Path(f"run-cp{cp}"), cp=cp, sequence_len=512, micro_batch=1, ranks=ranks)

    return make
