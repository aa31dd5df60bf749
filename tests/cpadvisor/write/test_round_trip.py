"""What is written is read, checked without errors, and taken by the trainer."""

import json

import pytest

from cpadvisor.catalog import config_json, find_model, require_gpu
from cpadvisor.check import check_file
from cpadvisor.node import Gpu, Node
from cpadvisor.plan.search import advise
from cpadvisor.plan.workload import ENGINES, Workload
from cpadvisor.write.config import WriteOptions, config_document
from runtime import config as runtime_config


def machine(key, count, link):
    spec = require_gpu(key)
    gpus = tuple(Gpu(index=index, name=spec.product, memory_bytes=spec.memory_bytes) for index in range(count))
    links = tuple(tuple(None if row == column else link for column in range(count)) for row in range(count))
    return Node(name=key if key == "cpu" else f"{key}-x{count}", source="recorded", gpus=gpus, links=links), spec


MACHINES = {"h100": machine("h100-80g", 8, "NV18"), "h200": machine("h200", 2, "NV18"), "cpu": machine("cpu", 2, "SYS")}
CELLS = [
    ("h100", "llama-3.1-8b", 32768),
    ("h100", "qwen2.5-7b", 131072),
    ("h100", "qwen3-0.6b", 8192),
    ("h200", "llama-3.2-1b", 32768),
    ("h200", "mistral-7b", 8192),
    ("cpu", "tiny", 8192),
]


def first_plan(cell, engine, *, lock=None):
    place, model, tokens = cell
    node, gpu = MACHINES[place]
    workload = Workload(model=find_model(model), sequence_len=tokens, engine=engine, lock=lock or {})
    return advise(node, gpu, workload), workload


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(map(str, cell)))
def test_every_first_choice_passes_its_own_check(cell, engine, tmp_path):
    advice, workload = first_plan(cell, engine)
    if not advice.plans:
        assert engine != "cpadvisor" and cell[0] == "cpu", "only axolotl on a CPU has no plan here"
        return
    path = tmp_path / "config.yaml"
    path.write_text(config_document(advice, advice.plans[0], workload, WriteOptions()))
    errors = [item for item in check_file(path, engine=engine, gpus=advice.gpus) if item.severity == "error"]
    assert errors == []


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(map(str, cell)))
@pytest.mark.parametrize("lock", [{}, {"cp": 2}], ids=["free", "cp2"])
def test_the_bundled_trainer_takes_its_file_and_means_the_same(cell, lock, tmp_path):
    advice, workload = first_plan(cell, "cpadvisor", lock=lock)
    plan = advice.plans[0]
    path = tmp_path / "config.yaml"
    data = tmp_path / "data.txt"
    data.write_text("x")
    path.write_text(config_document(advice, plan, workload, WriteOptions(data=str(data), steps=7)))
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(config_json(workload.model)))
    read = runtime_config.load(path, world=plan.layout.world)
    assert (read.sizes.dp_shard, read.sizes.cp) == (plan.layout.dp_shard, plan.layout.cp)
    assert read.sizes.rank_order == plan.order
    assert read.batch.sequence_len == workload.sequence_len
    assert read.batch.accumulation == plan.accumulation
    assert dict(read.compute.recompute) == {policy: layers for policy, layers in plan.recompute.items() if layers}
    assert read.compute.bf16 is (cell[0] != "cpu")
    assert read.optimization.max_steps == 7
    assert [source.path for source in read.sources] == [data]
    assert read.warnings == ()
