"""Whether axolotl takes what we write: its own schema with unknown keys forbidden, and its mesh arithmetic.

Run by `make check-axolotl`. Builds an environment of its own, plans each cell with the real planner, writes the file
for axolotl 0.21, and asks the gate in one process a file. Exit status 1 where a file is refused.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.axolotl_env import ready_python
from cpadvisor.catalog import find_model
from cpadvisor.check import check_file
from cpadvisor.check.keys import axolotl_keys
from cpadvisor.job import product_of
from cpadvisor.plan.advice import Plan
from cpadvisor.plan.search import advise
from cpadvisor.plan.workload import Workload
from cpadvisor.probe.recorded import load_node
from cpadvisor.units import format_tokens, parse_tokens
from cpadvisor.write.config import WriteOptions, config_document

GATE = Path(__file__).with_name("axolotl_gate.py")
ENGINE = "axolotl-0.21"
LEAST = 12
"""Fewer files than this prove too little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One question whose file is judged."""

    model: str
    length: str
    node: str
    nodes: int = 1
    lock: Mapping[str, int] = field(default_factory=dict)
    global_batch: int | None = None

    @property
    def workload(self) -> Workload:
        return Workload(
            model=find_model(self.model),
            sequence_len=parse_tokens(self.length),
            engine=ENGINE,
            nodes=self.nodes,
            nic_bytes_per_s=50e9 if self.nodes > 1 else None,
            global_batch=self.global_batch,
            lock=self.lock,
        )


CELLS = (
    Cell(model="llama-3.1-8b", length="4k", node="dgx-h100"),
    Cell(model="llama-3.1-8b", length="32k", node="dgx-h100"),
    Cell(model="llama-3.1-8b", length="128k", node="dgx-h100"),
    Cell(model="llama-3.1-8b", length="512k", node="hgx-h200"),
    Cell(model="llama-3.1-8b", length="32k", node="dgx-a100-80g"),
    Cell(model="llama-3.1-8b", length="16k", node="dgx-h100", global_batch=64),
    Cell(model="llama-3.1-8b", length="8k", node="dgx-h100", lock={"tp": 2}),
    Cell(model="llama-3.1-8b", length="64k", node="dgx-h100", lock={"cp": 2}),
    Cell(model="llama-3.1-8b", length="64k", node="dgx-h100", nodes=2),
    Cell(model="llama-3.1-70b", length="32k", node="hgx-h200", nodes=2),
    Cell(model="llama-3.1-70b", length="8k", node="dgx-h100", nodes=4),
    Cell(model="llama-3.2-1b", length="64k", node="dgx-h100"),
    Cell(model="llama-3.2-3b", length="128k", node="hgx-h200"),
    Cell(model="mistral-7b", length="32k", node="pcie-l40s-8"),
    Cell(model="qwen2.5-7b", length="128k", node="dgx-h100", lock={"cp": 8}),
    Cell(model="qwen2.5-14b", length="8k", node="h200-x2"),
    Cell(model="qwen2.5-32b", length="32k", node="hgx-h200"),
    Cell(model="qwen3-0.6b", length="16k", node="rtx4090-8"),
    Cell(model="qwen3-8b", length="40k", node="dgx-h100", lock={"dp_replicate": 2}, nodes=2),
    Cell(model="qwen3-32b", length="16k", node="hgx-h200"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one cell; a plan of None found nothing that fits."""

    cell: Cell
    plan: Plan | None
    method: str | None = None
    errors: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        if self.plan is None:
            return "infeasible"
        return "REJECTED" if self.errors else "accepted"


def main() -> int:
    python = ready_python()
    drift = _key_drift(python)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as pool:
        verdicts = list(pool.map(partial(judge, python, Path(folder)), CELLS))
    for verdict in verdicts:
        print(_row(verdict))
        for error in verdict.errors:
            print(f"    {error}")
    accepted = sum(verdict.word == "accepted" for verdict in verdicts)
    print(f"{accepted} of {len(verdicts)} files accepted by axolotl 0.21.0")
    for line in drift:
        print(f"cpadvisor/check/axolotl_keys.yaml differs from the wheel: {line}")
    rejected = any(verdict.errors for verdict in verdicts)
    return 1 if rejected or drift or accepted < LEAST else 0


def judge(python: Path, folder: Path, cell: Cell) -> Verdict:
    """Plan, write, check with our rules, ask axolotl."""
    node = load_node(cell.node)
    workload = cell.workload
    advice = advise(node, product_of(node), workload)
    if not advice.plans:
        return Verdict(cell=cell, plan=None)
    plan = advice.plans[0]
    path = folder / f"{CELLS.index(cell)}.yaml"
    path.write_text(config_document(advice, plan, workload, WriteOptions()), encoding="utf-8")
    ours = [item for item in check_file(path, engine=ENGINE, gpus=plan.layout.world) if item.severity == "error"]
    report = _ask(python, path, cell, plan)
    errors = (*report["errors"], *(f"our own check: {item.rule}: {item.message}" for item in ours))
    return Verdict(cell=cell, plan=plan, method=report["method"], errors=errors)


def _ask(python: Path, path: Path, cell: Cell, plan: Plan) -> dict[str, Any]:
    model = find_model(cell.model)
    world = plan.layout.world
    words = [str(world), str(world // cell.nodes), str(model.kv_heads), "tied" if model.tied_embeddings else "untied"]
    return _gate(python, "check", str(path), *words)


def _gate(python: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run([str(python), str(GATE), *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return {"errors": [f"the gate failed: {done.stderr.strip()[-500:]}"], "mesh": {}, "method": None}
    return json.loads(done.stdout.splitlines()[-1])


def _key_drift(python: Path) -> list[str]:
    """Names that our list has and the wheel has not, and the reverse."""
    names = _gate(python, "keys")
    drift: list[str] = []
    for block, ours in axolotl_keys().items():
        if block != "source":
            drift += [f"{block}: {name}" for name in sorted(set(ours) ^ set(names.get(block, ())))]
    return drift


def _row(verdict: Verdict) -> str:
    cell = verdict.cell
    where = f"{cell.nodes} x {cell.node}" if cell.nodes > 1 else cell.node
    layout = verdict.plan.layout.words if verdict.plan else "-"
    length = format_tokens(parse_tokens(cell.length))
    lock = ",".join(f"{axis}={size}" for axis, size in cell.lock.items())
    name = f"{cell.model} {length}" + (f" [{lock}]" if lock else "")
    return f"{verdict.word:<10}  {name:<34}  {where:<14}  {layout:<40}  {verdict.method or '-'}"


if __name__ == "__main__":
    sys.exit(main())
