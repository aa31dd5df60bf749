from dataclasses import replace

import pytest

from cpadvisor.errors import UsageError
from cpadvisor.plan.engines import AXOLOTL_021, CPADVISOR, cp_method, find_engine, ulysses_degree
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.workload import ENGINES


def test_every_engine_of_the_workload_has_a_record():
    assert [find_engine(name).name for name in ENGINES] == list(ENGINES)


def test_an_unknown_engine_names_those_there_are():
    with pytest.raises(UsageError, match=r"axolotl-9.*cpadvisor, axolotl-0.21, axolotl-0.20"):
        find_engine("axolotl-9")


# axolotl-ringmaster 0.2.7, strategies/usp.py:29-90, on nodes of 8: KV heads a TP rank, cp, ranks that exchange heads.
@pytest.mark.parametrize(
    ("kv_heads", "cp", "ulysses", "method"),
    [
        (8, 2, 2, "ulysses"),
        (8, 8, 8, "ulysses"),
        (8, 16, 8, "usp"),
        (4, 4, 4, "ulysses"),
        (4, 8, 4, "usp"),
        (4, 16, 4, "usp"),
        (2, 2, 2, "ulysses"),
        (2, 4, 2, "usp"),
        (2, 8, 2, "usp"),
        (1, 4, 1, "allgather"),
        (8, 1, 1, "none"),
    ],
)
def test_axolotl_s_method_follows_its_selector(llama_8b, kv_heads, cp, ulysses, method):
    model, layout = replace(llama_8b, kv_heads=kv_heads), Layout(cp=cp)
    degree = ulysses_degree(AXOLOTL_021, model, layout, gpus_per_node=8)
    assert (degree, cp_method(AXOLOTL_021, layout, ulysses=degree)) == (ulysses, method)


def test_tp_leaves_fewer_kv_heads_to_exchange(llama_8b):
    assert ulysses_degree(AXOLOTL_021, llama_8b, Layout(tp=4, cp=4), gpus_per_node=16) == 2


def test_the_bundled_trainer_always_rings(llama_8b):
    assert ulysses_degree(CPADVISOR, llama_8b, Layout(cp=8), gpus_per_node=8) == 1
    assert cp_method(CPADVISOR, Layout(cp=8), ulysses=1) == "ring"
