"""A machine, a config and a run with nothing wrong, into which tests plant one fault each."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from written_runs import WrittenRun

from cpadvisor.doctor.facts import (
    Answer,
    DriverFacts,
    GpuFacts,
    HostFacts,
    LibraryFacts,
    MachineFacts,
)
from cpadvisor.probe.recorded import load_node
from cpadvisor.units import GIB

ANSWERED = Answer(data={}, took_s=1.5, given_s=30.0)

TORCH = {
    "version": "2.13.0+cu130",
    "cuda": "13.0",
    "available": True,
    "devices": 8,
    "distributed": True,
    "gloo": True,
    "nccl_built": True,
    "nccl": [2, 29, 7],
    "bf16": True,
    "error": None,
    "cudnn": 91900,
    "loaded": {"cudnn": "/venv/lib/nvidia/cudnn/lib/libcudnn.so.9", "nccl": "/venv/lib/nvidia/nccl/lib/libnccl.so.2"},
}
WHEELS = {"torch": "2.13.0", "nvidia-cudnn-cu13": "9.19.0.56", "nvidia-nccl-cu13": "2.29.7"}


def peer_access(**refused: str) -> dict[str, str]:
    """Every pair of eight GPUs reads the other's memory; `_0_1="CNS"` refuses it to one."""
    codes = {pair.strip("_").replace("_", "-"): code for pair, code in refused.items()}
    return {f"{a}-{b}": "OK" for b in range(8) for a in range(b)} | codes


def sound_machine() -> MachineFacts:
    """Eight H100 on NVSwitch, everything installed, nothing in the way."""
    node = replace(load_node("dgx-h100"), source="nvml")
    return MachineFacts(
        driver=DriverFacts(
            node=node,
            driver="580.95.05",
            nvml="13.580.95",
            cuda="13.0",
            peer_access=peer_access(),
            gpus=tuple(
                GpuFacts(index=index, persistence=True, uncorrected_errors=0, remap_failed=False) for index in range(8)
            ),
        ),
        driver_answer=ANSWERED,
        host=HostFacts(
            hostname="gpu-07",
            cpus=112,
            load=2.0,
            memory_bytes=2048 * GIB,
            available_bytes=1900 * GIB,
            shm_bytes=1024 * GIB,
            shm_free_bytes=1024 * GIB,
            runs_root="/runs",
            runs_free_bytes=900 * GIB,
            limits={"nofile": 65536, "memlock": None, "nproc": 1_000_000, "core": 0},
            hard_limits={"nofile": 1_048_576, "memlock": None, "nproc": None, "core": None},
            iommu=False,
            virtual=False,
            resolves="10.0.0.7",
            rdma_devices=("mlx5_0",),
        ),
        host_answer=ANSWERED,
        libraries=LibraryFacts(
            python="/venv/bin/python",
            found=Answer(data={"python": "3.12.3", "modules": [], "wheels": WHEELS}, given_s=20.0),
            torch=Answer(data=TORCH, took_s=3.1, given_s=90.0),
            imports={
                "safetensors": Answer(data={"version": "0.8.0"}, took_s=0.2, given_s=60.0),
                "tokenizers": Answer(data={"version": "0.23.3"}, took_s=0.2, given_s=60.0),
                "flash_attn": Answer(data={"version": "2.8.3"}, took_s=4.0, given_s=60.0),
            },
        ),
    )


def with_driver(facts: MachineFacts, **changes: Any) -> MachineFacts:
    """The machine with other words of its driver; `node` are changes of the node."""
    node = changes.pop("node", {})
    if node is not None and facts.driver.node is not None:
        node = replace(facts.driver.node, **node)
    return replace(facts, driver=replace(facts.driver, node=node, **changes))


def with_host(facts: MachineFacts, **changes: Any) -> MachineFacts:
    """The machine with other words of its operating system."""
    return replace(facts, host=replace(facts.host, **changes))


def with_torch(facts: MachineFacts, **changes: Any) -> MachineFacts:
    """The machine with other words of torch."""
    answer = replace(facts.libraries.torch, data={**TORCH, **changes})
    return replace(facts, libraries=replace(facts.libraries, torch=answer))


SOUND_CONFIG: dict[str, Any] = {
    "base_model": "meta-llama/Llama-3.1-8B",
    "sequence_len": 32768,
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "dp_shard_size": 2,
    "context_parallel_size": 4,
    "fsdp_version": 2,
    "fsdp_config": {"reshard_after_forward": True},
    "gradient_checkpointing": True,
    "num_epochs": 1,
    "optimizer": "adamw_torch_fused",
    "learning_rate": 1e-5,
    "lr_scheduler": "cosine",
    "warmup_ratio": 0.1,
    "max_grad_norm": 1.0,
    "bf16": True,
    "output_dir": "out",
    "cpadvisor": {
        "model": "llama-3.1-8b",
        "random_weights": True,
        "method": "ring",
        "recompute": {"full": 32},
        "rank_order": [0, 1, 2, 3, 4, 5, 6, 7],
        "tokenizer": "bytes",
        "corpus": "python-stdlib",
    },
}
OF_AXOLOTL = {
    "datasets": [{"path": "tatsu-lab/alpaca", "type": "alpaca"}],
    "fsdp_config": {"reshard_after_forward": True, "transformer_layer_cls_to_wrap": "LlamaDecoderLayer"},
    "tf32": True,
    "attn_implementation": "flash_attention_2",
    "dataloader_num_workers": 4,
    "dataloader_pin_memory": True,
}


def write_config(folder: Path, *, axolotl: bool = False, **changes: Any) -> Path:
    """A sound config with changes: `...` removes a key, a mapping for `cpadvisor` is merged into the block."""
    own = {**SOUND_CONFIG["cpadvisor"], **changes.pop("cpadvisor", {})}
    values = {**SOUND_CONFIG, "cpadvisor": {key: value for key, value in own.items() if value is not ...}}
    if axolotl:
        values = {key: value for key, value in values.items() if key != "cpadvisor"} | OF_AXOLOTL
    path = folder / "job.yaml"
    values = {key: value for key, value in (values | changes).items() if value is not ...}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


TINY: dict[str, Any] = {
    "base_model": "tiny",
    "sequence_len": 8192,
    "gradient_accumulation_steps": 1,
    "micro_batch_size": 1,
    "context_parallel_size": 2,
    "dp_shard_size": 1,
    "gradient_checkpointing": False,
    "learning_rate": 1e-3,
    "warmup_steps": 1,
    "max_grad_norm": 1.0,
    "max_steps": 5,
    "bf16": False,
    "output_dir": "out",
    "cpadvisor": {"model": "tiny", "random_weights": True, "method": "ring", "corpus": "python-stdlib"},
}
RING_BYTES = (8_388_608, 10_485_760)
"""tiny (2 layers, 4 KV heads of 16) at 8,192 tokens over cp 2 in float32: a share is 2 x 4,096 x 4 x 16 x 4 = 2 MiB.
Rank 0 sends half of it forward, half backward and a whole share of gradients home, rank 1 two wholes and a half: two
layers make 8 and 10 MiB."""

PREDICTION = {
    "peak_bytes": 550_000_000,
    "low_bytes": 470_000_000,
    "high_bytes": 630_000_000,
    "step_s": 2.0,
    "step_low_s": 1.0,
    "step_high_s": 4.0,
    "tokens_per_s_per_gpu": 2048.0,
}


class SoundRun(WrittenRun):
    """`tiny` on two CPU processes: five steps as predicted, K and V round the whole ring."""

    def __init__(self, directory: Path, *, config: dict[str, Any] | None = None, **facts: Any) -> None:
        super().__init__(directory, **{"prediction": PREDICTION, "config": str(directory.parent / "job.yaml"), **facts})
        text = yaml.safe_dump({**TINY, **(config or {})}, sort_keys=False)
        (directory / "config.yaml").write_text(text)
        (directory.parent / "job.yaml").write_text(text)

    def started(self, rank: int, **changes: Any) -> None:
        """A rank announces its model."""
        self.event(
            rank,
            1.0,
            "start",
            **{
                "pid": 4_000_000 + rank,
                "device": "cpu",
                "cp_method": "ring",
                "kernel": "cpu",
                "recompute": {"none": 2},
                "sequence_len": 8192,
                "local_tokens": 4096,
                "steps": 5,
                **changes,
            },
        )

    def stepped(self, rank: int, number: int, *, sent: int | None = -1, **changes: Any) -> None:
        """A rank finishes a step; without `sent` it sends what its place in the ring asks for."""
        told = {
            "step": number,
            "loss": 6.0 - 0.1 * number,
            "grad_norm": 1.0,
            "step_s": 2.0,
            "tokens_per_s_per_gpu": 2048.0,
            "split_s": {"data": 0.01, "forward": 0.6, "backward": 1.3, "optimizer": 0.09},
        }
        self.event(rank, 1.0 + 2 * number, "step", **{**told, **changes})
        self.event(rank, 1.0 + 2 * number, "memory", peak_allocated_bytes=540_000_000, allocated_bytes=500_000_000)
        if sent is not None:
            told = {"step": number, "group": "cp", "op": "send_recv", "count": 6, "wire_s": 0.05, "exposed_s": 0.02}
            self.event(rank, 1.0 + 2 * number, "nccl", **told, bytes=RING_BYTES[rank] if sent == -1 else sent)

    def ended(self, rank: int, state: str = "done", **fields: Any) -> None:
        """A rank's last word."""
        self.event(rank, 12.0, "end", state=state, **fields)

    def whole(self) -> "SoundRun":
        """From beginning to end, with nothing wrong."""
        for rank in (0, 1):
            self.started(rank)
            for number in range(1, 6):
                self.stepped(rank, number)
            self.ended(rank)
        return self
