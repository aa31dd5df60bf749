"""Predictions for the bundled trainer beside what one H200 measured.

NVIDIA H200, driver 580.159, torch 2.11.0+cu130, cuDNN 9.19, batch 1, bf16, median of the steps after the second.
The pass factor of the engine was fitted on the steps of Llama-3.2-1B (nothing recomputed) and 3B; the other steps
and all of the memory were not.
"""

import pytest

from cpadvisor import catalog
from cpadvisor.node import Gpu, Node
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.memory import estimate_memory
from cpadvisor.plan.problem import candidates, survey
from cpadvisor.plan.search import group_links
from cpadvisor.plan.step_time import estimate_step
from cpadvisor.plan.workload import Workload

GIB = 2**30
ROWS = [
    ("llama-3.2-1b", 32_768, "none", 1.157, 62.05),
    ("llama-3.2-1b", 32_768, "attention_saved", 1.271, 22.96),
    ("llama-3.2-1b", 32_768, "full", 1.425, 22.58),
    ("llama-3.2-3b", 16_384, "attention_saved", 1.167, 50.88),
    ("qwen3-0.6b", 32_768, "attention_saved", 1.361, 14.49),
]


@pytest.mark.parametrize(("model", "tokens", "policy", "step_s", "allocated_gib"), ROWS)
def test_memory_and_time_of_runs_on_one_h200(model, tokens, policy, step_s, allocated_gib):
    gpu = catalog.load_gpus()["h200"]
    node = Node(
        name="one",
        source="recorded",
        gpus=(Gpu(index=0, name=gpu.product, memory_bytes=gpu.memory_bytes),),
        links=((None,),),
    )
    problem = survey(node, gpu, Workload(model=catalog.find_model(model), sequence_len=tokens))
    (candidate,) = [one for one in candidates(problem, Layout()) if one.recompute == policy]
    memory = estimate_memory(candidate, limit_bytes=gpu.memory_bytes)
    step = estimate_step(candidate, group_links(problem.fabric, Layout(), (0,)))
    assert memory.allocated_bytes == pytest.approx(allocated_gib * GIB, rel=0.05)
    assert step.total_s == pytest.approx(step_s, rel=0.10)
    assert step.low_s < step_s < step.high_s
