"""Faults planted in a sound machine, and what the doctor is to say of each."""

from dataclasses import replace

from sound_subjects import peer_access, sound_machine, with_driver, with_host, with_torch

from cpadvisor.doctor.facts import Answer, GpuFacts, LibraryFacts
from cpadvisor.node import Holder
from cpadvisor.units import GIB, MIB

HUNG = Answer(why="no answer within 30 s", took_s=30.0, given_s=30.0)


def links(code):
    return {"links": tuple(tuple(None if a == b else code for b in range(8)) for a in range(8))}


def without_link(row):
    """GPU `row` fell off NVLink."""
    matrix = [[None if a == b else "SYS" if row in (a, b) else "NV18" for b in range(8)] for a in range(8)]
    return {"links": tuple(map(tuple, matrix))}


def held(gpu, pid, gib):
    return {"holders": (Holder(gpu=gpu, pid=pid, user="alice", command="vllm serve", used_bytes=gib * GIB),)}


def imports(name, why):
    facts = sound_machine()
    answers = {**facts.libraries.imports, name: Answer(why=why, took_s=2.0, given_s=60.0)}
    return replace(facts, libraries=replace(facts.libraries, imports=answers))


def variables(**environ):
    return replace(sound_machine(), environ=environ)


# (name, machine, rule, severity, rows of the card, what the evidence shows)
ON_A_NODE = [
    (
        "the driver hangs",
        lambda: replace(sound_machine(), driver_answer=HUNG, driver=replace(sound_machine().driver, node=None)),
        "driver",
        "error",
        (),
        "no answer within 30 s",
    ),
    (
        "a GPU is lost",
        lambda: with_driver(sound_machine(), lost=("GPU3 does not answer (GPU is lost)",)),
        "gpu-lost",
        "error",
        (),
        "GPU3",
    ),
    (
        "a GPU is cut into slices",
        lambda: with_driver(sound_machine(), gpus=(GpuFacts(index=5, mig=True),)),
        "mig",
        "warning",
        (),
        "1 of 1",
    ),
    (
        "memory had errors",
        lambda: with_driver(sound_machine(), gpus=(GpuFacts(index=2, uncorrected_errors=4),)),
        "ecc",
        "warning",
        (),
        "GPU2: 4 uncorrected errors; the limit is 0",
    ),
    (
        "persistence is off",
        lambda: with_driver(sound_machine(), gpus=(GpuFacts(index=2, persistence=False),)),
        "persistence",
        "note",
        (),
        "GPU 2",
    ),
    (
        "no NVLink anywhere",
        lambda: with_driver(sound_machine(), node=links("PHB")),
        "nvlink",
        "warning",
        ("L2", "D2"),
        "made with NVLink",
    ),
    (
        "a GPU fell off NVLink",
        lambda: with_driver(sound_machine(), node=without_link(6)),
        "nvlink",
        "warning",
        ("L2", "D2"),
        "GPU6 fell off NVLink",
    ),
    (
        "peer access is refused",
        lambda: with_driver(sound_machine(), peer_access=peer_access(_0_1="CNS", _0_2="CNS")),
        "p2p",
        "warning",
        ("D2",),
        "GPU0–GPU1 CNS",
    ),
    (
        "an IOMMU on bare metal over PCIe",
        lambda: with_host(with_driver(sound_machine(), node=links("PHB")), iommu=True),
        "iommu",
        "note",
        ("D2",),
        "iommu",
    ),
    (
        "another process holds a GPU",
        lambda: with_driver(sound_machine(), node=held(6, 4211, 61)),
        "holders",
        "warning",
        (),
        "GPU6: pid 4211 (alice, vllm serve) 61.0 GiB",
    ),
    (
        "shared memory of a plain container",
        lambda: with_host(sound_machine(), shm_bytes=64 * MIB, shm_free_bytes=64 * MIB),
        "shm",
        "warning",
        (),
        "64.0 MiB free of 64.0 MiB; 1.0 GiB is needed",
    ),
    ("few descriptors", lambda: with_host(sound_machine(), limits={"nofile": 256}), "nofile", "warning", (), "256"),
    (
        "memory cannot be locked",
        lambda: with_host(sound_machine(), limits={"memlock": 65536}),
        "memlock",
        "warning",
        ("L2",),
        "ulimit -l is 64",
    ),
    ("few threads", lambda: with_host(sound_machine(), limits={"nproc": 512}), "nproc", "warning", (), "512"),
    ("cores of any size", lambda: with_host(sound_machine(), limits={"core": None}), "core", "note", (), "unlimited"),
    (
        "a small container",
        lambda: with_host(sound_machine(), cgroup_limit_bytes=16 * GIB, cgroup_used_bytes=6 * GIB),
        "host-memory",
        "warning",
        (),
        "the container may use 16.0 GiB, 6.0 GiB used; the host has 2,048 GiB, 1,900 GiB available; "
        "8 x 4.0 GiB for ranks on GPUs are 32.0 GiB",
    ),
    (
        "a host that others fill",
        lambda: with_host(sound_machine(), available_bytes=20 * GIB),
        "host-memory",
        "warning",
        (),
        "the host has 2,048 GiB, 20.0 GiB available; 8 x 4.0 GiB for ranks on GPUs are 32.0 GiB",
    ),
    (
        "a full host around a container",
        lambda: with_host(sound_machine(), available_bytes=8 * GIB, cgroup_limit_bytes=512 * GIB, cgroup_used_bytes=0),
        "host-memory",
        "warning",
        (),
        "8.0 GiB available",
    ),
    ("a full disk", lambda: with_host(sound_machine(), runs_free_bytes=1 * MIB), "disk", "error", (), "1.0 MiB free"),
    ("busy cores", lambda: with_host(sound_machine(), load=400.0), "load", "note", ("D2",), "400.0 processes want 112"),
    (
        "a name that leads nowhere",
        lambda: with_host(sound_machine(), resolve_error="Name or service not known"),
        "hostname",
        "warning",
        (),
        "Name or service not known",
    ),
    (
        "no loopback",
        lambda: with_host(sound_machine(), loopback_error="Cannot assign requested address"),
        "loopback",
        "error",
        (),
        "127.0.0.1: Cannot assign",
    ),
    (
        "the disk of the runs hangs",
        lambda: replace(sound_machine(), host_answer=Answer(why="no answer within 10 s", given_s=10.0)),
        "host",
        "error",
        (),
        "10 s",
    ),
    (
        "no interpreter with torch",
        lambda: replace(
            sound_machine(),
            libraries=LibraryFacts(no_python="none has torch; tried:\n  /usr/bin/python3: has no torch\ninstall"),
        ),
        "torch",
        "error",
        (),
        "/usr/bin/python3: has no torch",
    ),
    (
        "torch that does not import",
        lambda: replace(
            sound_machine(),
            libraries=LibraryFacts(python="/p", torch=Answer(why="it was ended by SIGSEGV", given_s=90.0)),
        ),
        "torch",
        "error",
        (),
        "90 s: it was ended by SIGSEGV",
    ),
    ("an old torch", lambda: with_torch(sound_machine(), version="2.5.1+cu124"), "torch", "warning", (), "2.11"),
    (
        "torch without CUDA",
        lambda: with_torch(sound_machine(), version="2.13.0+cpu", cuda=None, available=False, devices=0),
        "cuda",
        "error",
        (),
        "0 of 8 GPUs",
    ),
    (
        "torch newer than the driver",
        lambda: with_torch(with_driver(sound_machine(), cuda="12.4"), available=False, devices=0),
        "cuda",
        "error",
        (),
        "driver 12.4",
    ),
    (
        "a GPU that does not compute",
        lambda: with_torch(sound_machine(), error="AcceleratorError: ECC"),
        "cuda",
        "error",
        (),
        "AcceleratorError: ECC",
    ),
    (
        "cuDNN of the system shadows the wheel's",
        lambda: with_torch(sound_machine(), cudnn=90100, loaded={"cudnn": "/usr/lib/libcudnn.so.9"}),
        "cudnn",
        "warning",
        ("C7",),
        "loaded 9.1.0 from /usr/lib/libcudnn.so.9; the wheel is 9.19.0.56",
    ),
    (
        "another NCCL than the wheel's",
        lambda: with_torch(sound_machine(), nccl=[2, 18, 3]),
        "nccl",
        "warning",
        (),
        "loaded 2.18.3",
    ),
    (
        "flash-attn of another torch",
        lambda: imports("flash_attn", "it ended with exit status 1: undefined symbol: _ZN3c10"),
        "flash-attn-2",
        "warning",
        ("L1",),
        "undefined symbol",
    ),
    (
        "launches block",
        lambda: variables(CUDA_LAUNCH_BLOCKING="1"),
        "env.CUDA_LAUNCH_BLOCKING",
        "warning",
        ("D2",),
        "=1",
    ),
    (
        "peer access switched off",
        lambda: variables(NCCL_P2P_DISABLE="1"),
        "env.NCCL_P2P_DISABLE",
        "warning",
        ("L2",),
        "=1",
    ),
    (
        "InfiniBand switched off",
        lambda: variables(NCCL_IB_DISABLE="1"),
        "env.NCCL_IB_DISABLE",
        "warning",
        ("L2",),
        "=1",
    ),
    ("NCCL writes a line a call", lambda: variables(NCCL_DEBUG="TRACE"), "env.NCCL_DEBUG", "warning", ("K3",), "TRACE"),
    (
        "every GPU is hidden",
        lambda: variables(CUDA_VISIBLE_DEVICES=""),
        "env.CUDA_VISIBLE_DEVICES",
        "warning",
        (),
        "(empty)",
    ),
    (
        "an allocator that fragments",
        lambda: variables(PYTORCH_CUDA_ALLOC_CONF="max_split_size_mb:16"),
        "env.PYTORCH_CUDA_ALLOC_CONF",
        "warning",
        ("D1",),
        "max_split_size_mb:16",
    ),
    (
        "an allocator that fragments, by the newer name",
        lambda: variables(PYTORCH_ALLOC_CONF="max_split_size_mb:16"),
        "env.PYTORCH_ALLOC_CONF",
        "warning",
        ("D1",),
        "max_split_size_mb:16",
    ),
    (
        "errors that nobody hears of",
        lambda: variables(TORCH_NCCL_ASYNC_ERROR_HANDLING="0"),
        "env.TORCH_NCCL_ASYNC_ERROR_HANDLING",
        "warning",
        (),
        "=0",
    ),
    (
        "a file of NCCL's settings",
        lambda: with_host(sound_machine(), nccl_files={"NCCL_P2P_DISABLE": "1"}),
        "env.NCCL_P2P_DISABLE",
        "warning",
        ("L2",),
        "settings file",
    ),
]
