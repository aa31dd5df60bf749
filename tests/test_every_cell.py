"""Every node x model x length x engine has an answer or a reason, and the answers read sensibly."""

import itertools
from dataclasses import replace

import pytest

from cpadvisor import catalog
from cpadvisor.check import check_config
from cpadvisor.job import Request, build_job, product_of
from cpadvisor.plan.layout import AXES
from cpadvisor.plan.search import advise
from cpadvisor.plan.workload import ENGINES, Workload
from cpadvisor.probe.recorded import load_node, shipped
from cpadvisor.write.config import WriteOptions, config_document
from cpadvisor.yaml_reader import read_yaml

MODELS = (
    "tiny",
    "qwen3-0.6b",
    "llama-3.2-1b",
    "qwen2.5-7b",
    "llama-3.1-8b",
    "qwen3-32b",
    "llama-3.1-70b",
    "llama-3.1-405b",
)
LENGTHS = [2**power for power in range(11, 21)]  # 2K to 1M


def answer(node, model, tokens, engine="cpadvisor", **changes):
    machine = load_node(node)
    workload = Workload(model=catalog.find_model(model), sequence_len=tokens, engine=engine, **changes)
    return advise(machine, product_of(machine), workload), workload


@pytest.mark.parametrize("node", shipped())
def test_every_cell_has_an_answer_or_a_reason_and_the_first_choice_passes_the_check(node, tmp_path):
    for model, tokens, engine in itertools.product(MODELS, LENGTHS, ENGINES):
        cell = f"{node} {model} {tokens} {engine}"
        advice, workload = answer(node, model, tokens, engine)
        assert advice.plans or advice.rejected, cell
        assert all(rejection.why for rejection in advice.rejected), cell
        assert advice.trace, cell
        for plan in advice.plans:
            assert plan.layout.world == advice.gpus, cell
            assert plan.memory.peak_bytes <= plan.memory.limit_bytes, cell
            assert plan.memory.fits or any("tight" in warning for warning in plan.warnings), cell
            for axis in AXES:
                ranks = [rank for group in plan.groups[axis] for rank in group]
                assert sorted(ranks) == list(range(advice.gpus)), cell
        if advice.plans:
            text = config_document(advice, advice.plans[0], workload, WriteOptions(steps=10))
            values, lines = read_yaml(text, name="plan.yaml")
            findings = check_config(
                values, lines=lines, engine=engine, gpus=advice.gpus, model=workload.model, folder=tmp_path
            )
            assert [f for f in findings if f.severity == "error"] == [], cell


def test_a_short_sequence_of_a_small_model_needs_no_context_parallelism():
    advice, _ = answer("dgx-h100", "llama-3.1-8b", 4096)
    assert advice.plans[0].layout.cp == 1


def test_a_million_tokens_of_8b_need_much_of_it():
    advice, _ = answer("dgx-h100", "llama-3.1-8b", 2**20)
    assert advice.plans[0].layout.cp >= 4


def test_70b_on_eight_consumer_cards_is_infeasible_and_names_the_knob():
    advice, _ = answer("rtx4090-8", "llama-3.1-70b", 8192)
    assert advice.plans == ()
    assert any(rejection.fix for rejection in advice.rejected)


def test_a_locked_answer_knows_the_first_choice_without_the_lock():
    free, _ = answer("dgx-h100", "llama-3.1-8b", 2**15)
    locked, _ = answer("dgx-h100", "llama-3.1-8b", 2**15, lock={"cp": 8})
    assert locked.unlocked == free.plans[0]
    assert free.unlocked is None


def deciding(advice):
    """Rule to answer of each line of the trace."""
    return {step.rule: step.answer for step in advice.trace}


def changed_rules(first, second):
    before, after = deciding(first), deciding(second)
    return {rule for rule in before.keys() | after.keys() if before.get(rule) != after.get(rule)}


def test_a_longer_sequence_flips_the_line_that_asks_for_context_parallelism():
    short, _ = answer("dgx-h100", "llama-3.1-8b", 4096)
    long, _ = answer("dgx-h100", "llama-3.1-8b", 2**20)
    assert short.plans[0].layout.cp < long.plans[0].layout.cp
    assert changed_rules(short, long)


def test_fewer_gpus_flip_the_line_that_asks_whether_the_model_fits():
    job = build_job(Request(node="dgx-h100", model="llama-3.1-8b", sequence_len="32k"))
    many = advise(job.node, job.gpu, job.workload)
    one = build_job(Request(node="dgx-h100", model="llama-3.1-8b", sequence_len="32k", gpus="1"))
    few = advise(one.node, one.gpu, one.workload)
    assert many.plans
    assert few.plans == ()
    assert changed_rules(many, few)


def test_links_flip_the_line_that_asks_for_nvlink():
    node = load_node("dgx-h100")
    slow = replace(node, links=tuple(tuple(None if code is None else "SYS" for code in row) for row in node.links))
    workload = Workload(model=catalog.find_model("llama-3.1-8b"), sequence_len=2**17)
    fast_answer = advise(node, product_of(node), workload)
    slow_answer = advise(slow, product_of(node), workload)
    assert changed_rules(fast_answer, slow_answer)
