import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_run import CONFIG, write_folder

from runtime import config as configs
from runtime import keys
from runtime.errors import ConfigError
from runtime.settings import TrainConfig

OWN: dict[str, Any] = {"random_weights": True, "tokenizer": "bytes"}


def load(folder: Path, *, world: int = 1, **changes: Any) -> TrainConfig:
    return configs.load(write_folder(folder, **changes), world=world)


def problems(folder: Path, *, world: int = 1, **changes: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(folder, world=world, **changes)
    return caught.value.problems


def test_a_small_config_gets_axolotls_defaults(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.batch.micro_batch == config.batch.accumulation == 1
    assert (config.sizes.dp_shard, config.sizes.cp, config.sizes.rank_order) == (1, 1, None)
    assert (config.optimization.schedule, config.optimization.fused) == ("cosine", True)
    assert (config.optimization.beta1, config.optimization.beta2) == (0.9, 0.999)
    assert config.optimization.max_grad_norm == 1.0
    assert config.compute.recompute == (("none", None),)
    assert config.compute.bf16 is None
    assert config.weights_dir is None
    assert config.warnings == ()


def test_relative_paths_start_at_the_configs_folder(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.output_dir == tmp_path / "out"
    assert config.model_dir == tmp_path / "model"
    assert config.sources[0].path == tmp_path / "text.txt"


def test_events_go_to_the_output_folder_or_to_the_run_directory(tmp_path: Path) -> None:
    assert load(tmp_path).run_dir == tmp_path / "out"
    (tmp_path / "run.json").write_text("{}")
    assert load(tmp_path).run_dir == tmp_path


def test_the_shape_in_the_run_directory_comes_before_base_model(tmp_path: Path) -> None:
    assert load(tmp_path, base_model="meta-llama/Llama-3.2-1B").model_dir == tmp_path / "model"


def test_a_learning_rate_may_be_written_2e_5(tmp_path: Path) -> None:
    path = write_folder(tmp_path, learning_rate=None)
    path.write_text(path.read_text() + "learning_rate: 2e-5\n")
    assert configs.load(path, world=1).optimization.learning_rate == 2e-5


def test_reinit_weights_is_axolotls_word_for_random_weights(tmp_path: Path) -> None:
    assert load(tmp_path, reinit_weights=True, cpadvisor={"tokenizer": "bytes"}).weights_dir is None


def test_dp_shard_takes_what_cp_leaves(tmp_path: Path) -> None:
    assert load(tmp_path, world=4, context_parallel_size=2).sizes.dp_shard == 2


def test_the_method_and_its_degree_stand_with_the_sizes(tmp_path: Path) -> None:
    sizes = load(tmp_path, world=2, context_parallel_size=2).sizes
    assert (sizes.method, sizes.ulysses, sizes.ring_ranks) == ("ring", 1, 2)
    sizes = load(tmp_path, world=2, context_parallel_size=2, cpadvisor={**OWN, "method": "ulysses"}).sizes
    assert (sizes.method, sizes.ulysses, sizes.ring_ranks) == ("ulysses", 2, 1)
    sizes = load(tmp_path, world=4, context_parallel_size=4, cpadvisor={**OWN, "method": "usp"}).sizes
    assert (sizes.method, sizes.ulysses, sizes.ring_ranks) == ("usp", 2, 2)
    assert load(tmp_path).sizes.method == "none"


def test_heads_that_do_not_divide_are_told_with_the_config(tmp_path: Path) -> None:
    own = {**OWN, "method": "ulysses"}
    found = problems(tmp_path, world=3, context_parallel_size=3, sequence_len=126, cpadvisor=own)
    assert found == ("cpadvisor.method ulysses: 4 query heads do not divide over 3 ranks; use cpadvisor.method ring",)


def test_gradient_checkpointing_recomputes_all_and_the_own_block_is_finer(tmp_path: Path) -> None:
    assert load(tmp_path, gradient_checkpointing=True).compute.recompute == (("full", None),)
    own = {**OWN, "recompute": {"attention_saved": 1, "none": 1}}
    config = load(tmp_path, gradient_checkpointing=True, cpadvisor=own)
    assert config.compute.recompute == (("attention_saved", 1), ("none", 1))


def test_what_has_no_effect_is_said_and_does_not_stop_the_run(tmp_path: Path) -> None:
    config = load(tmp_path, flash_attention=True, logging_steps=1)
    assert config.warnings == (
        "flash_attention has no effect here: the trainer picks its own kernel and names it in the start event",
        "logging_steps has no effect here: every step is logged",
    )


def test_keys_of_axolotl_that_ask_for_nothing_are_let_through(tmp_path: Path) -> None:
    config = load(tmp_path, adapter="", load_in_4bit=False, deepspeed=None, sample_packing=False, val_set_size=0)
    assert config.warnings == ()


def test_fsdp_config_may_carry_its_old_prefix(tmp_path: Path) -> None:
    config = load(tmp_path, fsdp_config={"fsdp_reshard_after_forward": False, "offload_params": False})
    assert not config.compute.reshard_after_forward


@pytest.mark.parametrize(("written", "saves"), [("no", False), (False, False), ("end", True), (None, True)])
def test_save_strategy_no_writes_no_model(tmp_path: Path, written: Any, saves: bool) -> None:
    assert load(tmp_path, save_strategy=written).saves_model is saves


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dp_replicate_size": 2}, "dp_replicate_size 2: the bundled trainer does not do"),
        ({"tensor_parallel_size": 2}, "tensor_parallel_size 2: the bundled trainer does not do"),
        ({"sample_packing": True}, "sample_packing true: the bundled trainer does not pack documents; set it to false"),
        ({"val_set_size": 0.1}, "val_set_size 0.1: the bundled trainer does not evaluate; set it to 0"),
        ({"fsdp_version": 1}, "fsdp_version 1: the bundled trainer has FSDP version 2 only; set it to 2"),
        ({"fsdp_config": {"offload_params": True}}, "fsdp_config.offload_params true"),
        ({"fsdp_config": {"reshard_after_forwrd": True}}, "did you mean fsdp_config.reshard_after_forward?"),
        ({"context_paralel_size": 1}, "unknown key context_paralel_size; did you mean context_parallel_size?"),
        ({"zzz": 1}, "unknown key zzz; remove it"),
        ({"sequence_parallel_degree": 2}, "sequence_parallel_degree: it is the old name; write context_parallel_size"),
        ({"adapter": "lora"}, "adapter: the bundled trainer trains all weights"),
        ({"deepspeed": "zero3.json"}, "deepspeed: the bundled trainer shards with FSDP2"),
        ({"context_parallel_size": 0}, "context_parallel_size 0 is not a whole number from 1 up; use 1"),
        ({"micro_batch_size": 1.5}, "micro_batch_size 1.5 is not a whole number from 1 up; use 1"),
        ({"max_steps": "many"}, "max_steps 'many' is not a whole number from 1 up"),
        ({"seed": True}, "seed True is not a whole number from 0 up; use 42"),
        ({"learning_rate": "fast"}, "learning_rate 'fast' is not a number from 0 up"),
        ({"learning_rate": None}, "learning_rate is missing"),
        ({"sequence_len": None}, "sequence_len is missing"),
        ({"seed": 2**31}, "seed 2147483648 is above 2147483647; use 42"),
        ({"max_grad_norm": math.inf}, "max_grad_norm inf is not a number from 0 up"),
        ({"adam_beta2": 1.5}, "adam_beta2 1.5 is not a number from 0 to below 1"),
        ({"adam_beta1": 1.0}, "adam_beta1 1.0 is not a number from 0 to below 1"),
        ({"max_steps": None, "num_epochs": 0}, "num_epochs 0 trains nothing; use 1, or write max_steps"),
        (
            {"lr_scheduler": "polynomial"},
            "lr_scheduler 'polynomial' is not one of cosine, linear, constant; use cosine",
        ),
        ({"optimizer": "adamw_bnb_8bit"}, "optimizer 'adamw_bnb_8bit' is not one of adamw_torch_fused, adamw_torch"),
        ({"bf16": "full"}, "bf16 'full' is neither true nor false"),
        ({"warmup_steps": 2, "warmup_ratio": 0.1}, "warmup_steps and warmup_ratio are both given"),
        ({"gradient_checkpointing": "offload"}, "gradient_checkpointing 'offload' is neither true nor false"),
        ({"save_strategy": "often"}, "save_strategy 'often' is not known; write `no`, or remove it"),
        ({"cpadvisor": {**OWN, "metod": "ring"}}, "unknown key cpadvisor.metod; did you mean cpadvisor.method?"),
        ({"cpadvisor": {**OWN, "method": "torch"}}, "cpadvisor.method 'torch' is not one of none, ring, allgather"),
        ({"cpadvisor": {**OWN, "ulysses_degree": 2}}, "cpadvisor.ulysses_degree 2 with context_parallel_size 1"),
        (
            {"cpadvisor": {**OWN, "recompute": {"half": 2}}},
            "'half' is not a policy of this trainer; use none, attention_saved, full",
        ),
        (
            {"cpadvisor": {**OWN, "recompute": "full"}},
            "cpadvisor.recompute 'full' is not a mapping of policy to layers",
        ),
        (
            {"cpadvisor": {**OWN, "rank_order": [0, 0]}},
            "cpadvisor.rank_order [0, 0] is not a list of different GPU indices",
        ),
        ({"cpadvisor": {**OWN, "tokenizer": "nowhere.json"}}, "cpadvisor.tokenizer 'nowhere.json' is no file"),
        (
            {"cpadvisor": {**OWN, "corpus": "python-stdlib"}},
            "datasets and cpadvisor.corpus python-stdlib are both given",
        ),
        (
            {"cpadvisor": {"tokenizer": "bytes"}},
            "holds no *.safetensors; write a folder that does, or set cpadvisor.random_weights: true",
        ),
        ({"datasets": None}, "datasets is missing; write it, or cpadvisor.corpus: python-stdlib"),
        ({"datasets": []}, "datasets is not a list with at least one entry"),
        ({"datasets": [{"type": "completion"}]}, "datasets[0] has no path"),
        (
            {"datasets": [{"path": "text.txt", "type": "alpaca"}]},
            "datasets[0].type 'alpaca': the bundled trainer reads plain text only",
        ),
        (
            {"datasets": [{"path": "text.txt", "typ": "completion"}]},
            "unknown key datasets[0].typ; did you mean datasets[0].type?",
        ),
        ({"datasets": [{"path": "tatsu-lab/alpaca", "type": "completion"}]}, "datasets of a hub are not downloaded"),
        ({"datasets": [{"path": "gone.txt", "type": "completion"}]}, "datasets[0].path 'gone.txt': there is no file"),
        ({"datasets": [{"path": "model", "type": "completion"}]}, "datasets[0].path 'model' is a folder"),
        (
            {"datasets": [{"path": "text.txt", "ds_type": "parquet"}]},
            "datasets[0].ds_type 'parquet' is not one of text, json",
        ),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, str) else "",
)
def test_a_value_that_cannot_run_is_refused_with_its_mend(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    found = problems(tmp_path, **changes)
    assert len(found) == 1, found
    assert message in found[0]


def test_a_block_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, cpadvisor="ring")[0] == "cpadvisor 'ring' is not a mapping of keys to values"


def test_a_product_of_sizes_that_is_not_the_world_names_both(tmp_path: Path) -> None:
    found = problems(tmp_path, world=3, dp_shard_size=2, context_parallel_size=2, sequence_len=128)
    assert found == (
        "dp_shard_size 2 x context_parallel_size 2 is 4, but processes started: 3; "
        "start 4, or choose sizes whose product is 3",
    )


def test_a_sequence_that_does_not_split_names_both_neighbours(tmp_path: Path) -> None:
    found = problems(tmp_path, world=3, context_parallel_size=3, sequence_len=10_000)
    # 10,000 / 6 = 1,666.7; 6 x 1,666 = 9,996
    assert found == (
        "sequence_len 10000 does not split into 6 equal chunks (context_parallel_size 3); use 9996 or 10002",
    )


def test_a_sequence_on_one_rank_need_not_split(tmp_path: Path) -> None:
    assert load(tmp_path, sequence_len=101).batch.sequence_len == 101


def test_a_model_name_without_a_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "base_model": "meta-llama/Llama-3.1-8B"}))
    (tmp_path / "text.txt").write_text("text")
    with pytest.raises(ConfigError, match=r"'meta-llama/Llama-3\.1-8B' is no folder with a config\.json"):
        configs.load(path, world=1)


def test_all_reasons_come_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, world=1, sequence_len=101, context_parallel_size=2, sample_packing=True, typo_key=1)
    assert len(found) == 4
    with pytest.raises(ConfigError, match=r"config\.yaml: 4 errors\n  - .*\n  - .*\n  - .*\n  - "):
        configs.load(tmp_path / "config.yaml", world=1)


def test_no_key_stands_in_two_tables() -> None:
    tables = (keys.HONOURED, keys.ACCEPTED, keys.REFUSED)
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))
