import json

from cpadvisor.plan.layout import Layout
from cpadvisor.plan.report import advice_json, plan_json, rejection_json
from cpadvisor.plan.search import advise
from cpadvisor.plan.workload import Workload


def test_the_answer_has_the_shape_that_other_programs_rely_on(make_node, h100, llama_8b):
    advice = advise(make_node(8, "NV18"), h100, Workload(model=llama_8b, sequence_len=131072))
    data = json.loads(json.dumps(advice_json(advice)))
    assert list(data) == [
        "schema", "node", "model", "sequence_len", "gpus", "engine", "plans", "rejected", "trace", "card",
    ]  # fmt: skip
    assert data["schema"] == 1
    assert list(data["plans"][0]) == [
        "layout", "world", "order", "cp_method", "ulysses_degree", "cp_methods", "recompute", "micro_batch",
        "accumulation", "memory", "step", "tokens_per_s_per_gpu", "mfu", "groups", "warnings",
    ]  # fmt: skip
    assert data["plans"][0]["layout"] == {"dp_replicate": 1, "dp_shard": 4, "tp": 1, "cp": 2}
    first, *others = data["plans"][0]["cp_methods"]
    assert set(first) == {"cp_method", "ulysses_degree", "step_s", "why"}
    assert (first["cp_method"], first["step_s"]) == (data["plans"][0]["cp_method"], data["plans"][0]["step"]["total_s"])
    assert {one["cp_method"] for one in (first, *others)} == {"ring", "allgather", "ulysses", "usp"}
    assert set(data["plans"][0]["memory"]) == {"peak_bytes", "low_bytes", "high_bytes", "limit_bytes", "terms_bytes"}
    assert set(data["plans"][0]["step"]) == {"total_s", "low_s", "high_s", "terms_s"}
    assert data["plans"][0]["groups"]["cp"] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert set(data["rejected"][0]) == {"layout", "rule", "value", "limit", "why", "fix"}
    assert set(data["trace"][0]) == {"rule", "question", "answer", "value", "limit", "source"}
    assert set(data["card"]) == {"layout", "agrees", "why"}


def test_a_plan_and_a_rejection_stand_alone_as_they_do_in_the_answer(make_node, h100, llama_8b):
    advice = advise(make_node(8, "NV18"), h100, Workload(model=llama_8b, sequence_len=131072))
    assert advice_json(advice)["plans"][0] == plan_json(advice.plans[0])
    assert advice_json(advice)["rejected"][0] == rejection_json(advice.rejected[0])


def test_a_card_without_a_layout_is_null(make_node, h100, llama_8b):
    advice = advise(make_node(2, "NV18"), h100, Workload(model=llama_8b, sequence_len=32768))
    assert advice_json(advice)["card"]["layout"] is None
    assert advice.plans[0].layout == Layout(dp_shard=2)
