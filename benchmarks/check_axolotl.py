"""Whether axolotl takes what we write: its own schema with unknown keys forbidden, and its mesh arithmetic.

Run by `make check-axolotl`. Builds an environment of its own, plans each cell with the real planner, writes the file
for axolotl 0.21, and asks the gate. Then it breaks a sound file in one place after another: axolotl has to refuse each
one, and our own check has to name the rule. Exit status 1 where a file is refused or the two disagree.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.axolotl_env import ready_python
from benchmarks.axolotl_mutants import MUTANTS, Mutant
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
class Written:
    """The file of one cell; no plan and no path where nothing fits."""

    cell: Cell
    plan: Plan | None = None
    path: Path | None = None


def main() -> int:
    python = ready_python()
    with tempfile.TemporaryDirectory() as folder:
        written = [write(Path(folder) / f"{index}.yaml", cell) for index, cell in enumerate(CELLS)]
        broken = [_break(Path(folder) / f"broken-{index}.yaml", mutant) for index, mutant in enumerate(MUTANTS)]
        jobs = [_job_of(item) for item in written if item.path] + [_job(path) for path in broken]
        reports = iter(_gate(python, "check", jobs=jobs))
        refused, accepted = _judge_files(written, reports)
        disagreements = _judge_mutants(broken, reports)
    drift = _key_drift(python)
    for line in (*disagreements, *drift):
        print(line)
    print(f"{accepted} of {len(CELLS)} files accepted by axolotl 0.21.0")
    print(f"{len(MUTANTS) - len(disagreements)} of {len(MUTANTS)} broken files refused by both axolotl and our check")
    return 1 if refused or disagreements or drift or accepted < LEAST else 0


def write(path: Path, cell: Cell) -> Written:
    """Plan a cell as a user would, and write the file of the first plan."""
    node = load_node(cell.node)
    advice = advise(node, product_of(node), cell.workload)
    if not advice.plans:
        return Written(cell=cell)
    plan = advice.plans[0]
    path.write_text(config_document(advice, plan, cell.workload, WriteOptions()), encoding="utf-8")
    return Written(cell=cell, plan=plan, path=path)


def _break(path: Path, mutant: Mutant) -> Path:
    path.write_text(yaml.safe_dump(mutant.values), encoding="utf-8")
    return path


def _job_of(written: Written) -> dict[str, Any]:
    assert written.plan is not None, f"{written.cell} has no plan"
    model, world = find_model(written.cell.model), written.plan.layout.world
    return _job(
        written.path, world=world, nodes=written.cell.nodes, kv_heads=model.kv_heads, tied=model.tied_embeddings
    )


def _job(path: Path | None, *, world: int = 8, nodes: int = 1, kv_heads: int = 8, tied: bool = False) -> dict[str, Any]:
    return {"path": str(path), "world": world, "per_node": world // nodes, "kv_heads": kv_heads, "tied": tied}


def _judge_files(written: list[Written], reports: Iterator[dict[str, Any]]) -> tuple[int, int]:
    """Print a row a file; how many were refused and how many accepted."""
    refused = accepted = 0
    for item in written:
        if item.path is None or item.plan is None:
            print(_row(item, "infeasible", None))
            continue
        report = next(reports)
        ours = _our_errors(item.path, item.plan.layout.world)
        errors = [*report["errors"], *(f"our own check: {rule}" for rule in ours)]
        refused += bool(errors)
        accepted += not errors
        print(_row(item, "REFUSED" if errors else "accepted", report["method"]))
        for error in errors:
            print(f"    {error}")
    return refused, accepted


def _judge_mutants(paths: list[Path], reports: Iterator[dict[str, Any]]) -> list[str]:
    """Where axolotl and our check do not both refuse a broken file."""
    disagreements: list[str] = []
    for mutant, path, report in zip(MUTANTS, paths, reports, strict=True):
        ours = _our_errors(path, 8)
        if mutant.rule not in ours or not report["errors"]:
            disagreements.append(
                f"DISAGREE {mutant.rule} {dict(mutant.change)}: axolotl {report['errors']}, ours {ours}"
            )
    return disagreements


def _our_errors(path: Path, gpus: int) -> list[str]:
    return [finding.rule for finding in check_file(path, engine=ENGINE, gpus=gpus) if finding.severity == "error"]


def _gate(python: Path, *words: str, jobs: Any = None) -> Any:
    done = subprocess.run(
        [str(python), str(GATE), *words], input=json.dumps(jobs), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"the gate failed: {done.stderr.strip()[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _key_drift(python: Path) -> list[str]:
    """Names that our list has and the wheel has not, and the reverse."""
    names = _gate(python, "keys")
    return [
        f"cpadvisor/check/axolotl_keys.yaml differs from the wheel: {block}: {name}"
        for block, ours in axolotl_keys().items()
        if block != "source"
        for name in sorted(set(ours) ^ set(names.get(block, ())))
    ]


def _row(written: Written, word: str, method: str | None) -> str:
    cell = written.cell
    where = f"{cell.nodes} x {cell.node}" if cell.nodes > 1 else cell.node
    layout = written.plan.layout.words if written.plan else "-"
    length = format_tokens(parse_tokens(cell.length))
    lock = ",".join(f"{axis}={size}" for axis, size in cell.lock.items())
    name = f"{cell.model} {length}" + (f" [{lock}]" if lock else "")
    return f"{word:<10}  {name:<34}  {where:<14}  {layout:<30}  {method or '-'}"


if __name__ == "__main__":
    sys.exit(main())
