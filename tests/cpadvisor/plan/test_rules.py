from dataclasses import replace

import pytest

from cpadvisor.plan.layout import Layout
from cpadvisor.plan.problem import survey
from cpadvisor.plan.rules import broken
from cpadvisor.plan.workload import Workload


@pytest.fixture
def ask(make_node, h100, llama_8b):
    """Which rule a layout breaks: `ask(Layout(tp=8), engine="axolotl-0.21")`."""

    def ask(layout, *, gpus=8, code="NV18", gpu=h100, model=llama_8b, sequence_len=32768, **workload):
        work = Workload(model=model, sequence_len=sequence_len, **workload)
        return broken(survey(make_node(gpus, code), gpu, work), layout)

    return ask


def test_f1_a_product_that_is_not_the_gpus_names_the_dp_shard_that_is(ask):
    found = ask(Layout(dp_shard=2, cp=2))
    assert (found.rule, found.value, found.limit) == ("F1", 4, 8)
    assert found.fix == "set dp_shard 4"


def test_f3_a_length_that_does_not_split_names_both_neighbours(ask):
    found = ask(Layout(dp_shard=2, cp=4), sequence_len=10000 + 4)
    assert found.rule == "F3"
    assert found.fix == "use 10000 or 10008 tokens"


def test_f3_axolotl_pads_instead(ask):
    assert ask(Layout(dp_shard=2, cp=4), sequence_len=10004, engine="axolotl-0.21") is None


def test_f2_a_batch_that_does_not_split_names_both_neighbours(ask):
    found = ask(Layout(dp_shard=8), global_batch=12)
    assert found.rule == "F2"
    assert found.fix == "use a global batch of 8 or 16"


def test_the_bundled_trainer_says_what_it_does_not_do_yet_and_where_to_fold_it(ask):
    tp = ask(Layout(dp_shard=2, tp=2, cp=2))
    assert (tp.rule, tp.fix) == ("trainer-tp", "fold it into dp_shard: dp_shard 4")
    assert "yet" in tp.why
    assert ask(Layout(dp_replicate=2, dp_shard=4)).rule == "trainer-dp-replicate"


def test_axolotl_021_starts_neither_tp_with_cp_nor_tp_with_replicas_and_020_starts_both(ask):
    card_c2, hybrid = Layout(dp_shard=2, tp=2, cp=2), Layout(dp_replicate=2, dp_shard=2, tp=2)
    assert ask(card_c2, engine="axolotl-0.21").rule == "tp-cp"
    assert ask(hybrid, engine="axolotl-0.21").rule == "tp-replicate"
    assert ask(card_c2, engine="axolotl-0.20") is None
    assert ask(hybrid, engine="axolotl-0.20") is None
    assert ask(Layout(dp_shard=4, tp=2), engine="axolotl-0.21") is None


def test_replicas_of_unsharded_models_take_neither_cp_nor_tp(ask):
    assert ask(Layout(dp_replicate=4, cp=2), engine="axolotl-0.21").rule == "replicate-shard"
    assert ask(Layout(dp_replicate=4, tp=2), engine="axolotl-0.20").rule == "replicate-shard"
    assert ask(Layout(dp_replicate=8), engine="axolotl-0.21") is None


def test_tp_over_the_whole_world_leaves_fsdp_no_axis(ask):
    assert ask(Layout(tp=8), engine="axolotl-0.21").rule == "tp-fsdp"


def test_heads_and_kv_heads_divide_over_tp(ask, llama_8b):
    qwen = replace(llama_8b, heads=28, kv_heads=4)  # Qwen2.5-7B
    heads = ask(Layout(dp_shard=2, tp=8), gpus=16, model=qwen, engine="axolotl-0.20")
    assert (heads.rule, heads.value, heads.limit, heads.fix) == ("tp-heads", 28, 8, "use tp 7")
    kv = ask(Layout(dp_shard=2, tp=8), gpus=16, model=replace(llama_8b, kv_heads=4), engine="axolotl-0.20")
    assert (kv.rule, kv.value, kv.fix) == ("tp-kv-heads", 4, "use tp 4")


def test_axolotl_refuses_tp_for_tied_embeddings(ask, llama_8b):
    found = ask(Layout(dp_shard=4, tp=2), model=replace(llama_8b, tied_embeddings=True), engine="axolotl-0.21")
    assert found.rule == "tp-tied"
    assert found.fix == "use tp 1 with dp_shard 8"


def test_tp_stays_inside_a_node_and_inside_an_island(ask):
    assert ask(Layout(tp=8, dp_shard=2), nodes=4, gpus=4, engine="axolotl-0.20").rule == "tp-node"
    bridged = {"code": lambda a, b: "NV12" if a // 2 == b // 2 else "SYS", "engine": "axolotl-0.20"}
    assert ask(Layout(dp_shard=2, tp=4), **bridged).rule == "tp-island"
    assert ask(Layout(dp_shard=4, tp=2), **bridged) is None


def test_axolotl_does_not_train_on_cpu_processes_and_nothing_on_gpus_without_bf16(ask, cpu, h100):
    volta = replace(h100, product="Tesla V100-SXM2-16GB", precision="fp32")
    for engine in ("axolotl-0.21", "cpadvisor"):
        assert "bf16, which Tesla V100-SXM2-16GB does not compute" in ask(Layout(cp=8), gpu=volta, engine=engine).why
    assert ask(Layout(cp=2), gpus=2, gpu=cpu, engine="axolotl-0.21").rule == "engine-device"
    assert ask(Layout(cp=2), gpus=2, gpu=cpu) is None


def test_every_broken_rule_is_told_at_once(ask):
    found = ask(Layout(dp_shard=1, tp=2, cp=4), sequence_len=10001)
    assert found.rule == "trainer-tp"
    assert "; also 10001 tokens" in found.why
