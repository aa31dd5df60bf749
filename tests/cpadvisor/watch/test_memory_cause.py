from collections.abc import Iterator
from typing import Any

from cpadvisor.catalog import load_models, require_gpu
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.engines import CPADVISOR, find_engine
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.memory import estimate_memory
from cpadvisor.units import GIB, MIB
from cpadvisor.watch.memory_cause import GROUPS, memory_cause

# 80 GiB in all: 8 + 4 + 16 + 44 predicted, with 1 GiB of context and buffers, and 2 GiB of fragments.
PREDICTION = {
    "peak_bytes": 75 * GIB,
    "terms_bytes": {
        "parameters": 8 * GIB,
        "gradients": 4 * GIB,
        "optimizer": 16 * GIB,
        "activations": 30 * GIB,
        "logits": 10 * GIB,
        "root_group": 4 * GIB,
        "context": 700 * MIB,
        "nccl": 324 * MIB,
        "allocator": 2 * GIB,
    },
}


def event(**changes: Any) -> dict[str, Any]:
    """80 GiB full: 8 + 4 + 16 + 48 allocated, 3 reserved beside it, 1 held by contexts, 4 asked for and none free."""
    terms = {"parameters": 8 * GIB, "gradients": 4 * GIB, "optimizer": 16 * GIB, "activations": 48 * GIB}
    told = {
        "kind": "out_of_memory",
        "step": 2,
        "phase": "backward",
        "requested_bytes": 4 * GIB,
        "free_bytes": 0,
        "limit_bytes": 80 * GIB,
        "allocated_bytes": 76 * GIB,
        "reserved_bytes": 79 * GIB,
        "other_bytes": 1 * GIB,
        "terms_bytes": terms,
    }
    return told | changes


def test_the_term_that_exceeded_most_is_named_with_both_figures() -> None:
    cause = memory_cause(event(), PREDICTION, gpu=3)
    # 48 held and 4 asked for, against 30 + 10 + 4; fragments are 1 GiB above, all else is as predicted.
    assert cause.term == "activations"
    assert cause.headline == "in the backward pass of step 2: activations need 52.0 GiB, 44.0 GiB were predicted"
    assert cause.evidence == (
        "asked for 4.0 GiB with 0 B free of 80.0 GiB",
        "term            measured   predicted",
        "parameters       8.0 GiB     8.0 GiB",
        "gradients        4.0 GiB     8.0 GiB",
        "optimizer       16.0 GiB    16.0 GiB",
        "activations     52.0 GiB    44.0 GiB",
        "fragments        3.0 GiB     2.0 GiB",
        "others           1.0 GiB     1.0 GiB",
    )


def test_memory_that_other_processes_hold_is_told_with_the_gpu() -> None:
    terms = {"parameters": 8 * GIB, "gradients": 4 * GIB, "optimizer": 16 * GIB, "activations": 28 * GIB}
    held = event(other_bytes=21 * GIB, allocated_bytes=56 * GIB, reserved_bytes=59 * GIB, terms_bytes=terms)
    cause = memory_cause(held, PREDICTION, gpu=3)
    assert cause.term == "others"
    assert cause.headline == (
        "in the backward pass of step 2: contexts and other processes hold 21.0 GiB of GPU 3, 1.0 GiB were predicted"
    )


def test_fragments_are_what_is_reserved_beyond_what_is_allocated() -> None:
    torn = event(allocated_bytes=64 * GIB, terms_bytes={"activations": 36 * GIB})
    cause = memory_cause(torn, PREDICTION, gpu=None)
    assert cause.term == "fragments"
    assert "the allocator's fragments need 15.0 GiB, 2.0 GiB were predicted" in cause.headline


def test_gradients_at_an_instant_that_had_none_are_held_against_the_parameters() -> None:
    without = {name: size for name, size in PREDICTION["terms_bytes"].items() if name != "gradients"}
    terms = {"parameters": 8 * GIB, "gradients": 8 * GIB, "optimizer": 16 * GIB, "activations": 1 * GIB}
    stepping = event(phase="optimizer", requested_bytes=1, allocated_bytes=33 * GIB, reserved_bytes=34 * GIB)
    cause = memory_cause(stepping | {"terms_bytes": terms}, {"terms_bytes": without}, gpu=None)
    gradients = next(group for group in cause.groups if group.name == "gradients")
    assert (gradients.measured, gradients.predicted, gradients.excess) == (8 * GIB, 8 * GIB, 0)
    assert cause.term == "optimizer"  # by the byte that was asked for


def test_where_nothing_exceeded_the_gpu_is_too_small() -> None:
    small = event(requested_bytes=0, limit_bytes=40 * GIB, allocated_bytes=76 * GIB, reserved_bytes=76 * GIB)
    cause = memory_cause(small | {"terms_bytes": {"activations": 30 * GIB}, "other_bytes": 0}, PREDICTION, gpu=None)
    assert cause.term is None
    assert cause.headline == (
        "in the backward pass of step 2: no term exceeded its prediction, the GPU's 40.0 GiB are too few; "
        "most went to activations, 30.0 GiB"
    )


def test_without_a_prediction_the_largest_term_is_told() -> None:
    cause = memory_cause(event(), None, gpu=None)
    assert cause.term is None
    assert "no terms were predicted" in cause.headline
    assert "most went to activations, 52.0 GiB" in cause.headline
    assert cause.evidence[-3:-2] == ("activations     52.0 GiB           –",)


def test_other_processes_are_seen_without_a_prediction() -> None:
    # 700 MiB of context and 180 MiB of one communicator are what a rank holds beside its allocator.
    assert memory_cause(event(other_bytes=9 * GIB), None, gpu=0).term == "others"


def test_while_a_model_is_built_the_parameters_grow() -> None:
    cause = memory_cause(event(phase="build", step=0, terms_bytes={"parameters": 8 * GIB}), PREDICTION, gpu=None)
    assert cause.headline.startswith("while the model was built: parameters need 12.0 GiB, 8.0 GiB were predicted")


def test_an_event_of_another_version_is_read_as_far_as_it_goes() -> None:
    cause = memory_cause({"kind": "out_of_memory", "terms_bytes": [1], "phase": 7, "step": "x"}, PREDICTION, gpu=None)
    assert cause.term is None
    assert cause.evidence[0] == "asked for – with – free of –"


def test_a_term_that_is_not_known_here_counts_as_the_rest_does() -> None:
    terms = {**PREDICTION["terms_bytes"], "a_term_of_tomorrow": 6 * GIB}
    activations = memory_cause(event(), {"terms_bytes": terms}, gpu=None).groups[3]
    assert (activations.name, activations.predicted) == ("activations", 50 * GIB)


def test_every_term_of_the_planner_belongs_to_one_group() -> None:
    known = [term for terms in GROUPS.values() for term in terms]
    assert len(known) == len(set(known))
    names = {name for candidate in candidates() for name in estimate_memory(candidate, limit_bytes=1).terms_bytes}
    assert names <= set(known)
    assert {"activations", "fsdp_buffers", "nccl", "context", "process", "unsharded_gradients"} <= names


def candidates() -> Iterator[Candidate]:
    model = load_models()["llama-3.1-8b"]
    for gpu, engine in (("h100-80g", CPADVISOR), ("h100-80g", find_engine("axolotl-0.21")), ("cpu", CPADVISOR)):
        for layout in (Layout(), Layout(dp_shard=2, cp=4), Layout(cp=8), Layout(tp=2, dp_shard=2)):
            for recompute in engine.recompute_policies:
                for accumulation in (1, 4):
                    yield Candidate(
                        model=model,
                        engine=engine,
                        gpu=require_gpu(gpu),
                        layout=layout,
                        sequence_len=32768,
                        recompute=recompute,
                        cp_method="ring" if layout.cp > 1 else "none",
                        accumulation=accumulation,
                        defers_reduction=engine is not CPADVISOR,
                    )


# Llama-3.2-1B at 32,768 tokens, recompute none, on one H200: what was planned for one sequence at a time.
H200_PREDICTION = {
    "terms_bytes": {
        "parameters": 4943257600,
        "optimizer": 9886515200,
        "activations": 48653926400,
        "logits": 1610612736,
        "hidden_gradient": 134217728,
        "root_group": 2101350400,
        "context": 734003200,
        "allocator": 1346597601,
    }
}
# Recorded there with micro_batch_size 4, and with 100 GiB of the GPU held by another process.
H200_EVENTS = {
    "micro_batch": {
        "step": 1,
        "phase": "forward",
        "requested_bytes": 2147483648,
        "free_bytes": 1717986918,
        "limit_bytes": 150109106995,
        "allocated_bytes": 146522809303,
        "reserved_bytes": 146675356139,
        "other_bytes": 1715763938,
        "terms_bytes": {"parameters": 4943257600, "gradients": 0, "optimizer": 0, "activations": 141579551703},
    },
    "others": {
        "step": 1,
        "phase": "forward",
        "requested_bytes": 268435456,
        "free_bytes": 110624768,
        "limit_bytes": 150109106995,
        "allocated_bytes": 40190156472,
        "reserved_bytes": 40362227794,
        "other_bytes": 109636254433,
        "terms_bytes": {"parameters": 4943257600, "gradients": 0, "optimizer": 0, "activations": 35246898872},
    },
}


def test_four_sequences_at_a_time_on_an_h200_are_seen_in_the_activations() -> None:
    cause = memory_cause(H200_EVENTS["micro_batch"], H200_PREDICTION, gpu=0)
    assert cause.term == "activations"
    # 141,579,551,703 held and 2,147,483,648 asked for; 48,653,926,400 + 1,610,612,736 + 134,217,728 + 2,101,350,400.
    assert cause.headline == "in the forward pass of step 1: activations need 134 GiB, 48.9 GiB were predicted"
    parameters = next(group for group in cause.groups if group.name == "parameters")
    assert parameters.measured == parameters.predicted


def test_a_neighbour_on_an_h200_is_seen_as_what_it_is() -> None:
    cause = memory_cause(H200_EVENTS["others"], H200_PREDICTION, gpu=0)
    assert cause.term == "others"
    assert cause.headline.endswith("contexts and other processes hold 102 GiB of GPU 0, 700 MiB were predicted")
