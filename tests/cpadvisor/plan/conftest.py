"""Machines and products made by hand, so that no expected number depends on the shipped tables."""

from collections.abc import Callable

import pytest

from cpadvisor.hardware import GpuSpec
from cpadvisor.model import ModelSpec
from cpadvisor.node import Gpu, Node

MakeNode = Callable[..., Node]


@pytest.fixture(scope="session")
def h100() -> GpuSpec:
    # NVIDIA H100 data sheet: 989 TFLOP/s dense bf16, 3.35 TB/s; NVML total 81,559 MiB; NCCL takes 20.6 GB/s a link.
    return GpuSpec(
        key="h100-80g",
        product="NVIDIA H100 80GB HBM3",
        memory_bytes=81559 * 2**20,
        peak_flops_per_s=989e12,
        matmul_flops_per_s=0.9 * 795e12,
        attention_forward_flops_per_s=600e12,
        attention_backward_flops_per_s=525e12,
        hbm_bytes_per_s=3.35e12,
        nvlink_bytes_per_s=20.6e9,
        pcie_bytes_per_s=55e9,
        p2p=True,
        precision="bf16",
        source="by hand",
    )


@pytest.fixture(scope="session")
def cpu() -> GpuSpec:
    return GpuSpec(
        key="cpu",
        product="CPU process (gloo)",
        memory_bytes=8 * 2**30,
        peak_flops_per_s=0.15e12,
        matmul_flops_per_s=0.1e12,
        attention_forward_flops_per_s=0.04e12,
        attention_backward_flops_per_s=0.05e12,
        hbm_bytes_per_s=10e9,
        nvlink_bytes_per_s=None,
        pcie_bytes_per_s=2e9,
        p2p=True,
        precision="fp32",
        source="by hand",
    )


@pytest.fixture(scope="session")
def llama_8b() -> ModelSpec:
    # https://huggingface.co/meta-llama/Llama-3.1-8B/blob/main/config.json
    return ModelSpec(
        name="llama-3.1-8b",
        family="llama",
        hidden_size=4096,
        intermediate_size=14336,
        layers=32,
        heads=32,
        kv_heads=8,
        head_dim=128,
        vocab_size=128256,
        tied_embeddings=False,
        max_positions=131072,
        rope_theta=500000.0,
    )


@pytest.fixture(scope="session")
def make_node() -> MakeNode:
    """`make_node(8, "NV18")`, or a function of two positions instead of the code."""

    def make(count: int, code, *, memory_bytes: int | None = None, used_bytes: int | None = None) -> Node:
        link = code if callable(code) else lambda first, second: code
        return Node(
            name=f"made-{count}",
            source="recorded",
            gpus=tuple(Gpu(index=i, memory_bytes=memory_bytes, used_bytes=used_bytes) for i in range(count)),
            links=tuple(
                tuple(None if i == j else link(min(i, j), max(i, j)) for j in range(count)) for i in range(count)
            ),
        )

    return make
