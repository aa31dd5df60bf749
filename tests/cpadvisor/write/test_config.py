"""The config of a plan."""

import pytest

from cpadvisor.plan.layout import Layout
from cpadvisor.write.config import WriteOptions, config_document, config_lines
from cpadvisor.write.lines import ORIGINS
from cpadvisor.yaml_reader import read_yaml


@pytest.fixture
def written(planned):
    """The values of the file of one plan."""

    def build(options=None, **plan):
        text = config_document(*planned(**plan), options or WriteOptions())
        return read_yaml(text, name="c.yaml")[0]

    return build


def test_an_axolotl_file_holds_every_size_above_one_and_what_a_start_needs(written):
    values = written(engine="axolotl-0.21", method="ulysses")
    assert values["base_model"] == "meta-llama/Llama-3.1-8B"
    assert (values["dp_shard_size"], values["context_parallel_size"]) == (2, 4)
    assert "tensor_parallel_size" not in values
    assert values["context_parallel"] == {"size": 4, "backend": "ulysses"}
    assert values["fsdp_config"]["transformer_layer_cls_to_wrap"] == "LlamaDecoderLayer"
    assert values["fsdp_config"]["reshard_after_forward"] is True
    assert values["attn_implementation"] == "flash_attention_2"
    assert values["learning_rate"] == 2e-5
    assert values["datasets"] == [{"path": "tatsu-lab/alpaca", "type": "alpaca"}]
    assert values["gradient_checkpointing"] is True
    assert "cpadvisor" not in values


def test_accumulation_keeps_gradients_sharded_in_axolotl(written):
    values = written(engine="axolotl-0.21", method="ulysses", accumulation=4)
    assert values["accelerator_config"] == {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    assert "accelerator_config" not in written(engine="axolotl-0.21", method="ulysses")


@pytest.mark.parametrize(
    ("method", "block"),
    [
        ("ulysses", {"size": 4, "backend": "ulysses"}),
        ("usp", {"size": 4, "backend": "usp"}),
        ("ring", {"size": 4, "backend": "ring", "load_balance": "head_tail"}),
        ("allgather", {"size": 4, "backend": "ring", "rotate_method": "allgather"}),
    ],
)
def test_the_backend_is_the_one_that_the_prediction_assumes(written, method, block):
    assert written(engine="axolotl-0.21", method=method)["context_parallel"] == block


def test_the_bundled_trainer_s_file_names_the_method_and_the_degree_of_usp_alone(written):
    assert written(method="usp", ulysses=2)["cpadvisor"]["ulysses_degree"] == 2
    for method in ("ring", "allgather", "ulysses"):
        block = written(method=method, ulysses=4 if method == "ulysses" else 1)["cpadvisor"]
        assert block["method"] == method
        assert "ulysses_degree" not in block


def test_one_gpu_has_no_sizes_and_nothing_to_shard(written):
    values = written(engine="axolotl-0.21", method="none", layout=Layout(), model="qwen3-0.6b")
    assert not {"dp_shard_size", "context_parallel_size", "fsdp_config", "fsdp_version"} & set(values)


def test_tensor_parallel_loading_is_not_staged_on_the_cpu(written):
    values = written(engine="axolotl-0.21", method="none", layout=Layout(dp_shard=4, tp=2))
    assert values["tensor_parallel_size"] == 2
    assert "cpu_ram_efficient_loading" not in values["fsdp_config"]


@pytest.mark.parametrize(
    ("recompute", "key", "value"),
    [
        ({"none": 32}, "gradient_checkpointing", False),
        ({"attention_saved": 32}, "selective_checkpointing", True),
        ({"full_offload": 32}, "activation_offloading", "hidden_states"),
    ],
)
def test_recompute_policies_become_axolotl_keys(written, recompute, key, value):
    assert written(engine="axolotl-0.21", method="ulysses", recompute=recompute)[key] == value


def test_the_bundled_trainer_gets_its_own_block(written):
    block = written(recompute={"none": 10, "full": 22}, order=(0, 3, 2, 1, 5, 6, 7, 4))["cpadvisor"]
    assert block["method"] == "ring"
    assert block["recompute"] == {"none": 10, "full": 22}
    assert block["rank_order"] == [0, 3, 2, 1, 5, 6, 7, 4]
    assert block["corpus"] == "python-stdlib"
    assert block["tokenizer"] == "bytes"
    assert block["prediction"] == {
        "peak_bytes": 49_507_847_372,
        "low_bytes": 45_000_000_000,
        "high_bytes": 53_000_000_000,
        "terms_bytes": {"parameters": 4_015_130_624, "activations": 45_492_716_748},
        "step_s": 2.19,
        "step_low_s": 1.9,
        "step_high_s": 2.6,
        "tokens_per_s_per_gpu": 14900.1,
        "first_loss": 11.7618,  # ln 128,256
    }


def test_tiny_on_cpu_runs_fifty_steps_in_float32_from_random_weights(written):
    values = written(model="tiny", node="cpu", layout=Layout(cp=2), recompute={"none": 2})
    assert (values["max_steps"], values["warmup_steps"], values["learning_rate"]) == (50, 5, 1e-3)
    assert values["bf16"] is False
    assert "tf32" not in values
    assert values["cpadvisor"]["random_weights"] is True


def test_steps_that_are_asked_for_replace_the_epoch(written):
    values = written(WriteOptions(steps=200))
    assert (values["max_steps"], values["warmup_steps"]) == (200, 20)
    assert "num_epochs" not in values
    assert written()["num_epochs"] == 1


@pytest.mark.parametrize(("name", "kind"), [("/d/a.jsonl", "json"), ("/d/a.txt", "text"), ("/d/README", "text")])
def test_the_data_of_the_user_replaces_the_default(written, name, kind):
    values = written(WriteOptions(data=name))
    assert values["datasets"] == [{"path": name, "ds_type": kind, "type": "completion", "field": "text"}]
    assert "corpus" not in values["cpadvisor"]


def test_weights_in_a_folder_are_fine_tuned(planned, tmp_path):
    from dataclasses import replace

    advice, plan, workload = planned()
    workload = replace(workload, model=replace(workload.model, hub_id=str(tmp_path)))
    values = read_yaml(config_document(advice, plan, workload, WriteOptions()), name="c.yaml")[0]
    assert values["base_model"] == str(tmp_path)
    assert values["learning_rate"] == 2e-5
    assert values["cpadvisor"]["random_weights"] is False
    assert "tokenizer" not in values["cpadvisor"]


def test_a_gpu_without_bf16_gets_float32_and_no_flash_kernel(written):
    values = written(WriteOptions(bf16=False), engine="axolotl-0.21", method="ulysses")
    assert (values["bf16"], values["attn_implementation"]) == (False, "sdpa")


def test_the_header_tells_prediction_and_command(planned):
    text = config_document(*planned(engine="axolotl-0.21", method="ulysses"), WriteOptions())
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert "46.1 GiB (41.9 GiB to 49.4 GiB) of 79.6 GiB" in header[1]
    assert "2.19 s (1.90 s to 2.60 s), 14,900 tokens/s on each GPU, MFU 41 %" in header[2]
    assert header[3].endswith("axolotl train config.yaml --launcher torchrun -- --nproc_per_node=8")


def test_the_command_names_the_file_as_the_shell_has_to_see_it(planned):
    text = config_document(*planned(), WriteOptions(path="/a b/c.yaml"))
    assert "# Start: cpadvisor launch '/a b/c.yaml'" in text


def test_random_weights_of_a_known_model_are_told_in_the_header(planned):
    assert "trains from random weights" in config_document(*planned(), WriteOptions())
    assert "trains from random weights" not in config_document(*planned(model="tiny"), WriteOptions())


def test_each_line_has_a_known_origin_and_no_key_stands_twice(planned):
    for engine in ("cpadvisor", "axolotl-0.21", "axolotl-0.20"):
        lines = config_lines(*planned(engine=engine), WriteOptions())
        assert {line.origin for line in lines} <= set(ORIGINS)
        assert len({line.key for line in lines}) == len(lines)


def test_the_default_output_lies_below_the_folder_of_the_config(written):
    assert written(WriteOptions(path="/data/a/c.yaml"))["output_dir"] == "/data/a/outputs/llama-3.1-8b-32768-shard2-cp4"
    assert written()["output_dir"] == "./outputs/llama-3.1-8b-32768-shard2-cp4"
    assert written(WriteOptions(path="/data/a/c.yaml", output_dir="/out"))["output_dir"] == "/out"
