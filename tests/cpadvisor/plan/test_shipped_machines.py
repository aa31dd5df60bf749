"""The whole grid of what ships: each machine, model, length and engine has an answer or a reason."""

import pytest

from cpadvisor.catalog import find_gpu, find_model
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.search import advise
from cpadvisor.plan.workload import ENGINES, Workload
from cpadvisor.probe.recorded import load_node, shipped

SMALL = ("tiny", "qwen3-0.6b", "llama-3.2-1b", "mistral-7b")
LARGE = ("llama-3.1-8b", "qwen2.5-14b", "llama-3.1-70b", "llama-3.1-405b")
MODELS = SMALL + LARGE
LENGTHS = (2048, 32768, 2**20)


def ask(machine, model, sequence_len, engine="cpadvisor"):
    node = load_node(machine)
    gpu = find_gpu(node.gpus[0].name)
    assert gpu is not None, f"{machine} ships with a product that the hardware table lacks"
    return advise(node, gpu, Workload(model=find_model(model), sequence_len=sequence_len, engine=engine))


@pytest.mark.parametrize("machine", shipped())
def test_every_cell_has_an_answer_or_a_reason(machine):
    for model in MODELS:
        for sequence_len in LENGTHS:
            for engine in ENGINES:
                advice = ask(machine, model, sequence_len, engine)
                cell = f"{machine} {model} {sequence_len} {engine}"
                assert advice.plans or all(one.why for one in advice.rejected), cell
                assert advice.trace[-1].rule == "decision", cell
                assert advice.plans or advice.trace[-1].answer.startswith("none: "), cell


@pytest.mark.parametrize(
    ("machine", "model", "sequence_len", "layout"),
    [
        ("dgx-h100", "llama-3.1-8b", 4096, Layout(dp_shard=8)),
        ("dgx-h100", "llama-3.1-8b", 2**20, Layout(cp=8)),
        ("hgx-h200", "llama-3.1-8b", 2**20, Layout(cp=8)),
        ("h200-x2", "llama-3.1-8b", 131072, Layout(cp=2)),
        ("cpu", "tiny", 8192, Layout(dp_shard=2)),
    ],
)
def test_the_first_choice_is_what_an_engineer_expects(machine, model, sequence_len, layout):
    assert ask(machine, model, sequence_len).plans[0].layout == layout


def test_70b_does_not_fit_eight_4090_and_the_knob_is_named():
    advice = ask("rtx4090-8", "llama-3.1-70b", 8192)
    assert not advice.plans
    assert "GPUs" in (advice.rejected[0].fix or "")
