"""A config judged for a machine: figures worked out for this very file."""

import json

import pytest
from sound_subjects import TINY, write_config

from cpadvisor.catalog import find_model
from cpadvisor.check.config import examine_file
from cpadvisor.doctor import config as doctor_config
from cpadvisor.doctor.config import examine_config
from cpadvisor.doctor.knobs import cp_changes
from cpadvisor.doctor.situation import situate
from cpadvisor.errors import ConfigError
from cpadvisor.hf_config import config_json
from cpadvisor.plan.layout import Layout
from cpadvisor.probe.host import read_host
from cpadvisor.probe.recorded import load_node
from cpadvisor.units import format_bytes
from cpadvisor.write.edit import REMOVE


def judged(path, machine="dgx-h100", **more):
    found = examine_config(path, node=None if machine is None else load_node(machine), **more)
    rules = [one.rule for one in found]
    assert len(set(rules)) == len(rules), rules
    return {one.rule: one for one in found}


@pytest.fixture
def no_gpu_here(monkeypatch):
    monkeypatch.setattr(doctor_config, "gather_node", lambda environ: (None, "no NVIDIA driver"))


def test_the_peak_is_that_of_the_file_s_own_sizes(tmp_path):
    # 8.03e9 parameters over 8 GPUs: 4 bytes of weights are 3.7 GiB, 8 of the optimizer 7.5 GiB.
    memory = judged(write_config(tmp_path))["memory"]
    assert memory.severity == "ok"
    assert "optimizer 7.5 GiB" in memory.evidence and "parameters 3.7 GiB" in memory.evidence
    assert "against 79.6 GiB on 8 h100-80g of dgx-h100" in memory.evidence


def test_each_knob_comes_with_the_peak_that_it_would_give(tmp_path):
    path = write_config(
        tmp_path, micro_batch_size=2, dp_shard_size=4, context_parallel_size=2, cpadvisor={"recompute": {"none": 32}}
    )
    memory = judged(path)["memory"]
    assert memory.severity == "error"
    texts = [mend.text for mend in memory.mends]
    assert all(" at the peak" in text for text in texts)
    fits = [text for text in texts if "fits" in text]
    assert fits[0].startswith("write gradient_checkpointing: true and cpadvisor.recompute: {attention_saved: 32}: ")
    assert any(text.startswith("write micro_batch_size: 1 and gradient_accumulation_steps: 2: ") for text in texts)
    assert any(
        "write context_parallel_size: 4, dp_shard_size: 2" in text or "write context_parallel_size: 8" in text
        for text in texts
    )
    assert all(bool(mend.changes) == ("fits" in mend.text) for mend in memory.mends), "only what is enough is applied"


def test_a_file_s_own_method_is_judged(tmp_path):
    path = write_config(tmp_path, cpadvisor={"method": "usp", "ulysses_degree": 2})
    links = judged(path)["cp-links"].evidence
    assert "a hop of" in links and "an exchange of" in links
    assert "waiting for K and V" in judged(path)["step"].evidence


@pytest.mark.parametrize(
    ("block", "cp", "changes"),
    [
        ({"method": "ring"}, 8, {}),
        ({"method": "ulysses", "ulysses_degree": 4}, 2, {"cpadvisor.ulysses_degree": REMOVE}),
        # 28 heads do not divide over 8 ranks, and do over 4: the most, which usp takes without being told.
        ({"method": "ulysses"}, 8, {"cpadvisor.method": "usp"}),
        ({"method": "usp", "ulysses_degree": 2}, 8, {}),
        ({"method": "usp", "ulysses_degree": 2}, 2, {"cpadvisor.method": "ring", "cpadvisor.ulysses_degree": REMOVE}),
        ({"method": "usp", "ulysses_degree": 2}, 1, {"cpadvisor.ulysses_degree": REMOVE}),
    ],
)
def test_another_cp_keeps_the_method_where_it_runs_there_and_else_takes_the_nearest(tmp_path, block, cp, changes):
    path = write_config(
        tmp_path,
        base_model="Qwen/Qwen2.5-7B",
        dp_shard_size=2,
        context_parallel_size=4,
        cpadvisor={"model": "qwen2.5-7b", "recompute": {"none": 28}, **block},
    )
    situation = situate(examine_file(path)[0], load_node("dgx-h100"))
    assert not isinstance(situation, str)
    found = cp_changes(situation, Layout(dp_shard=8 // cp, cp=cp))
    assert {key: value for key, value in found.items() if "method" in key or "degree" in key} == changes


def test_knobs_that_are_not_enough_alone_are_turned_together(tmp_path):
    path = write_config(
        tmp_path,
        sequence_len=131072,
        micro_batch_size=4,
        context_parallel_size=1,
        dp_shard_size=8,
        cpadvisor={"recompute": {"none": 32}},
    )
    memory = judged(path)["memory"]
    first = memory.mends[0]
    assert first.text.count("write ") >= 2 and "fits" in first.text
    assert {change.key for change in first.changes} >= {"micro_batch_size", "cpadvisor.recompute"}


def test_where_no_knob_is_enough_another_plan_is_asked_for(tmp_path):
    # 16 bytes of states for each of 8.03e9 parameters over two GPUs of 45 GiB.
    path = write_config(tmp_path, dp_shard_size=1, context_parallel_size=2, cpadvisor={"rank_order": [0, 1]})
    memory = judged(path, "pcie-l40s-8")["memory"]
    assert memory.severity == "error"
    assert not any(mend.changes for mend in memory.mends)
    assert memory.mends[-1].command == "cpadvisor plan --model llama-3.1-8b --seq 32768"


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({"base_model": ...}, "cpadvisor plan --model llama-3.1-8b --seq 32768"),
        ({"cpadvisor": {"model": ...}}, "cpadvisor plan --model meta-llama/Llama-3.1-8B --seq 32768"),
        ({"base_model": "acme/unheard-of", "cpadvisor": {"model": ...}}, None),
        ({"sequence_len": ...}, None),
    ],
)
def test_a_plan_for_the_gpus_that_there_are_names_the_model_that_the_file_means(changes, command, tmp_path):
    mends = judged(write_config(tmp_path, **changes), "h200-x2")["gpus"].mends
    assert mends[-1].text == "plan for the GPUs that there are"
    assert mends[-1].command == command


def test_a_model_of_the_file_s_own_folder_is_planned_from_anywhere(tmp_path):
    folder = tmp_path / "my jobs"
    model = folder / "own"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(config_json(find_model("llama-3.1-8b"))))
    path = write_config(folder, base_model="own", cpadvisor={"model": ...})
    assert judged(path, "h200-x2")["gpus"].mends[-1].command == f"cpadvisor plan --model '{model}' --seq 32768"


def test_gpus_that_others_hold_have_less_to_give(tmp_path):
    from dataclasses import replace

    node = load_node("dgx-h100")
    node = replace(node, gpus=tuple(replace(gpu, used_bytes=60 * 2**30) for gpu in node.gpus))
    memory = {one.rule: one for one in examine_config(write_config(tmp_path), node=node)}["memory"]
    assert (memory.severity, "19.6 GiB" in memory.evidence) == ("error", True)


def test_a_hop_is_held_against_the_attention_beside_it(tmp_path):
    # 2 tensors x 8,192 tokens x 1,024 x 2 bytes = 32 MiB over 18 links of 20.6 GB/s, 120 us of launch: 0.21 ms.
    links = judged(write_config(tmp_path))["cp-links"]
    assert "slowest hop NV18 at 371 GB/s; a hop of 32.0 MiB takes 210 µs beside" in links.evidence


def test_the_order_of_the_file_is_the_ring(tmp_path):
    at_cp_8 = {"sequence_len": 8192, "context_parallel_size": 8, "dp_shard_size": 1}
    worst = judged(write_config(tmp_path, **at_cp_8), "dgx-1v")["cp-links"]
    assert "slowest hop SYS" in worst.evidence
    assert worst.mends[0].changes[0].value == [0, 3, 2, 1, 5, 6, 7, 4], "NV2 on every hop (facts of the DGX-1V)"
    best = judged(write_config(tmp_path, **at_cp_8, cpadvisor={"rank_order": [0, 3, 2, 1, 5, 6, 7, 4]}), "dgx-1v")[
        "cp-links"
    ]
    assert "slowest hop NV2" in best.evidence


@pytest.mark.parametrize("order", [[[0], [1]], [{}, {}], ["0", "1"], [0, True], [1, 1], [0.0, 1.0], [0, None]])
def test_an_order_that_names_no_gpus_is_a_finding_and_the_prediction_takes_the_first_ones(order, tmp_path):
    sizes = {"sequence_len": 8192, "context_parallel_size": 2, "dp_shard_size": 1}
    found = judged(write_config(tmp_path, **sizes, cpadvisor={"rank_order": order}))
    told = [one for one in found.values() if "rank_order" in one.evidence and one.severity == "error"]
    assert len(told) == 1, found
    first = judged(write_config(tmp_path, **sizes, cpadvisor={"rank_order": [0, 1]}))
    assert found["cp-links"].evidence == first["cp-links"].evidence


@pytest.mark.parametrize("kernel", [[], ["flash"], {"a": 1}])
def test_a_kernel_that_is_no_name_is_judged_without_a_crash(kernel, tmp_path):
    assert "memory" in judged(write_config(tmp_path, axolotl=True, attn_implementation=kernel))


def test_axolotl_s_all_to_all_hides_behind_nothing(tmp_path):
    links = judged(write_config(tmp_path, axolotl=True))["cp-links"]
    assert "an exchange of" in links.evidence and "nothing hides it" in links.evidence


def test_the_card_s_overhead_stands_beside_ours(tmp_path):
    assert "waiting for K and V 0 %, card F5 says 65 %" in judged(write_config(tmp_path))["step"].evidence


def test_infiniband_switched_off_matters_between_machines(tmp_path):
    path = write_config(tmp_path, axolotl=True, dp_shard_size=4)
    network = judged(path, environ={"NCCL_IB_DISABLE": "1"})["network"]
    assert (network.severity, network.mends[0].command) == ("warning", "export NCCL_IB_DISABLE=0")
    assert "2 machines; 50.0 GB/s a GPU is assumed, card L2 asks for 12.5 GB/s" in network.evidence
    assert judged(path, environ={})["network"].severity == "note"
    assert judged(write_config(tmp_path), environ={"NCCL_IB_DISABLE": "1"})["network"].severity == "ok"


def test_a_split_shows_length_cp_local_length_chunks_and_neighbours(tmp_path):
    # Card F3: 16,384 / 4 = 4,096; with zigzag halves 8 chunks of 2,048.
    split = judged(write_config(tmp_path, sequence_len=16384))["F3"]
    assert split.evidence == (
        "16,384 tokens over cp 4: 4,096 a rank, as 8 chunks of 2,048; "
        "the nearest lengths that split are 16,376 and 16,392"
    )


def test_a_file_that_wants_gpus_on_a_machine_without_is_an_error_and_judged_by_example(tmp_path, no_gpu_here):
    found = judged(write_config(tmp_path), machine=None)
    gpus = found["gpus"]
    assert (gpus.severity, gpus.title) == ("error", "the file wants 8 GPUs, and this machine has none")
    assert "no NVIDIA driver" in gpus.evidence
    assert "of dgx-h100, as an example" in found["memory"].evidence


def test_a_file_for_cpu_processes_is_judged_by_this_host(tmp_path, no_gpu_here):
    path = write_config(
        tmp_path,
        **dict.fromkeys(("fsdp_version", "fsdp_config"), ...),
        **{**TINY, "cpadvisor": TINY["cpadvisor"] | {"recompute": ..., "rank_order": [0, 1], "tokenizer": "bytes"}},
    )
    found = judged(path, machine=None)
    assert "gpus" not in found
    assert "on 2 CPU processes of this host" in found["memory"].evidence
    assert found["cp-links"].evidence == "gloo inside this host"


@pytest.mark.parametrize("machine", ["dgx-h100", "cpu", None])
def test_a_file_for_cpu_processes_has_the_memory_of_this_host_whatever_machine_is_looked_at(machine, tmp_path):
    own = {"recompute": ..., "rank_order": [0, 1], "tokenizer": "bytes"}
    path = write_config(
        tmp_path,
        **dict.fromkeys(("fsdp_version", "fsdp_config"), ...),
        **{**TINY, "cpadvisor": TINY["cpadvisor"] | own},
    )
    seen = judged(path, machine)["memory"].evidence
    assert f"against {format_bytes(read_host().memory_bytes // 2)} on 2 CPU processes of this host" in seen


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"base_model": "acme/unheard-of", "cpadvisor": {"model": ...}},
            "the model 'acme/unheard-of' is not known here",
        ),
        ({"axolotl": True, "adapter": "lora"}, "adapter lora: memory is predicted for full fine-tuning"),
        ({"sequence_len": ...}, "sequence_len is None"),
        ({"axolotl": True, "dp_shard_size": 3}, "12 GPUs do not spread evenly over machines of 8"),
    ],
)
def test_what_cannot_be_predicted_says_why_and_all_else_is_checked(changes, words, tmp_path):
    changes = dict(changes)
    found = judged(write_config(tmp_path, axolotl=changes.pop("axolotl", False), **changes))
    assert (found["memory"].severity, words in found["memory"].evidence) == ("note", True), found["memory"].evidence
    assert "cp-on" in found and "cp-links" not in found


def test_several_findings_of_one_rule_have_names_of_their_own(tmp_path):
    found = judged(write_config(tmp_path, max_grad_nrm=1.0, learnig_rate=1e-5, sample_packing=True, val_set_size=0.1))
    assert {"key-unknown.max_grad_nrm", "key-unknown.learnig_rate"} <= set(found)
    assert {"engine-value.sample_packing", "engine-value.val_set_size"} <= set(found)


def test_a_row_of_the_card_is_shown_once_as_a_finding_or_as_well(tmp_path):
    assert judged(write_config(tmp_path))["C8"].severity == "ok"
    found = judged(write_config(tmp_path, max_grad_norm=0))
    assert "C8" not in found and found["C8.max_grad_norm"].severity == "warning"


def test_text_that_is_no_yaml_is_one_finding(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\na: 2\n")
    found = judged(path)
    assert [(one.rule, one.severity, one.card) for one in found.values()] == [("C3", "error", ("C3",))]


def test_a_file_that_is_not_there_is_an_error_of_its_own(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        examine_config(tmp_path / "gone.yaml")


def test_room_for_the_model_is_asked_of_the_disk(tmp_path, monkeypatch, no_gpu_here):
    from cpadvisor.doctor import memory_rows

    class Full:
        free = 1 << 30

    monkeypatch.setattr(memory_rows.shutil, "disk_usage", lambda path: Full)
    disk = judged(write_config(tmp_path), machine=None)["disk"]
    # 8,030,261,248 parameters in bf16: 15.0 GiB.
    assert (disk.severity, "model and checkpoints take 15.0 GiB" in disk.evidence) == ("warning", True)
    saving = write_config(tmp_path, save_strategy="steps", save_steps=10)
    # Two checkpoints of 12 bytes a parameter more: 194 GiB.
    assert "194 GiB" in judged(saving, machine=None)["disk"].evidence
