"""A sound config for each engine, and what is found when a test changes it."""

import pytest

from cpadvisor.catalog import find_model
from cpadvisor.check import check_config

SOUND = {
    "base_model": "meta-llama/Llama-3.1-8B",
    "datasets": [{"path": "tatsu-lab/alpaca", "type": "alpaca"}],
    "sequence_len": 32768,
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "dp_shard_size": 2,
    "context_parallel_size": 4,
    "fsdp_version": 2,
    "fsdp_config": {"reshard_after_forward": True, "transformer_layer_cls_to_wrap": "LlamaDecoderLayer"},
    "gradient_checkpointing": True,
    "num_epochs": 1,
    "optimizer": "adamw_torch_fused",
    "learning_rate": 2e-5,
    "lr_scheduler": "cosine",
    "warmup_ratio": 0.1,
    "max_grad_norm": 1.0,
    "bf16": True,
    "tf32": True,
    "attn_implementation": "flash_attention_2",
    "dataloader_num_workers": 4,
    "dataloader_pin_memory": True,
    "output_dir": "out",
}
OF_AXOLOTL_ALONE = ("datasets",)
OWN = {"method": "ring", "random_weights": True, "model": "llama-3.1-8b", "corpus": "python-stdlib"}


def sound_values(engine, changes):
    values = dict(SOUND)
    if engine == "cpadvisor":
        values = {key: value for key, value in values.items() if key not in OF_AXOLOTL_ALONE} | {"cpadvisor": OWN}
    return {key: value for key, value in (values | changes).items() if value is not ...}


@pytest.fixture
def sound():
    """The values of a sound config for an engine, with changes; `...` as a value removes the key."""
    return sound_values


@pytest.fixture
def found(tmp_path):
    """Checks the sound config with changes."""

    def check(*, engine="axolotl-0.21", gpus=8, model="llama-3.1-8b", **changes):
        values = sound_values(engine, changes)
        lines = {key: number for number, key in enumerate(values, start=1)}
        return check_config(
            values, lines=lines, engine=engine, gpus=gpus, model=find_model(model) if model else None, folder=tmp_path
        )

    return check


@pytest.fixture
def only(found):
    """The one finding of a changed config."""

    def check(**changes):
        findings = found(**changes)
        assert len(findings) == 1, findings
        return findings[0]

    return check
