"""Asks axolotl itself whether it would take a config: its schema, unknown keys forbidden, then its mesh arithmetic.

Runs under the interpreter of an environment that holds axolotl (benchmarks.check_axolotl builds one), without network
and without a GPU. One process a file, because axolotl's plugin manager is a singleton that carries keys from file to
file; the processes are forks of one that has done the imports, which take seconds.

    python axolotl_gate.py keys             the names that the schema knows, as JSON
    python axolotl_gate.py check < JOBS     JOBS is a JSON list of {path, world, per_node, kv_heads, tied};
                                            answers with a list of {errors, mesh, method}
"""

import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

# Before axolotl is imported: no hub, no telemetry, no device.
os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", AXOLOTL_DO_NOT_TRACK="1", DO_NOT_TRACK="1", CUDA_VISIBLE_DEVICES=""
)
warnings.filterwarnings("ignore")

CAPABILITIES = {"bf16": True, "fp8": True, "tf32": True, "compute_capability": "sm_90"}
TORCH_VERSION = "2.13.0"


def main(argv: list[str]) -> int:
    if argv == ["keys"]:
        print(json.dumps(known_keys()))
        return 0
    _import_once()
    reports = [_forked(job) for job in json.load(sys.stdin)]
    print(json.dumps(reports))
    return 0


def _import_once() -> None:
    modules = ("accelerate.parallelism_config", "axolotl.utils.config", "axolotl.utils.distributed", "ringmaster")
    for module in (*modules, "axolotl.integrations.config", "axolotl.integrations.context_parallel.settings"):
        importlib.import_module(module)


def _forked(job: dict[str, Any]) -> dict[str, Any]:
    """The report of one file, made by a child that is gone afterwards."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            report = check(Path(job.pop("path")), **job)
        except BaseException as error:  # a child has no caller to raise to
            report = {"errors": [f"the gate failed: {type(error).__name__}: {error}"], "mesh": {}, "method": None}
        os.write(writing, json.dumps(report).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"errors": ["the gate died"], "mesh": {}, "method": None}


def known_keys() -> dict[str, list[str]]:
    from axolotl.integrations.context_parallel.args import ContextParallelConfig
    from axolotl.utils.schemas.datasets import SFTDataset
    from axolotl.utils.schemas.fsdp import FSDPConfig

    return {
        "top": sorted(_names(_schema({}))),
        "fsdp_config": sorted(_names(FSDPConfig)),
        "context_parallel": sorted(_names(ContextParallelConfig)),
        "datasets": sorted(_names(SFTDataset)),
    }


def check(path: Path, *, world: int, per_node: int, kv_heads: int, tied: bool) -> dict[str, Any]:
    import yaml

    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    errors = _unknown(values)
    config = _validated(values, world, per_node, errors)
    mesh: dict[str, int] = {}
    method = None
    if config is not None:
        mesh = _mesh(config, world, errors)
        method = _method(config, per_node, kv_heads, errors)
        if (config.get("tensor_parallel_size") or 1) > 1 and tied:
            errors.append("tensor_parallel_size > 1 with tied embeddings (axolotl loaders/utils.py:139-148)")
    return {"errors": errors, "mesh": mesh, "method": method}


def _schema(values: dict[str, Any]) -> type:
    from axolotl.integrations.config import merge_input_args
    from axolotl.utils.config import prepare_plugins
    from axolotl.utils.dict import DictDefault

    prepare_plugins(DictDefault(values))
    return merge_input_args()[1]


def _names(model: Any) -> set[str]:
    names: set[str] = set()
    for name, field in model.model_fields.items():
        choices = getattr(field.validation_alias, "choices", [field.validation_alias])
        names |= {name, *(alias for alias in (field.alias, *choices) if isinstance(alias, str))}
    return names


def _unknown(values: dict[str, Any]) -> list[str]:
    """Names that pydantic would drop in silence, at the top and in the blocks that a plan writes."""
    known = known_keys()
    blocks = {"fsdp_config": [values.get("fsdp_config") or {}], "datasets": values.get("datasets") or []}
    blocks["context_parallel"] = [values.get("context_parallel") or {}]
    unknown = [key for key in values if key not in known["top"]]
    for block, entries in blocks.items():
        unknown += [f"{block}.{key}" for entry in entries for key in entry if key not in known[block]]
    return [f"unknown key {key}" for key in unknown]


def _validated(values: dict[str, Any], world: int, per_node: int, errors: list[str]) -> dict[str, Any] | None:
    from axolotl.utils.config import validate_config
    from axolotl.utils.dict import DictDefault
    from pydantic import ValidationError

    config = DictDefault(json.loads(json.dumps(values)))
    capabilities = {**CAPABILITIES, "n_gpu": world, "n_node": world // per_node}
    try:
        _schema(config)
        checked = validate_config(config, capabilities=capabilities, env_capabilities={"torch_version": TORCH_VERSION})
        return checked.to_dict()
    except ValidationError as error:
        for item in error.errors():
            errors.append(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}")
    except Exception as error:  # validators raise what they like
        errors.append(f"{type(error).__name__}: {error}")
    return None


def _mesh(config: dict[str, Any], world: int, errors: list[str]) -> dict[str, int]:
    """The mesh that the loader and then the Trainer's Accelerator build, by their own code where they have it.

    The loader fills gaps; the Accelerator knows only sizes above 1 from the environment, and under TP
    transformers 5.20.1 (trainer.py:777-790) sets dp_shard to world // tp whatever the config says.
    """
    from accelerate.parallelism_config import ParallelismConfig
    from axolotl.utils.distributed import _get_parallel_config_kwargs

    tp = config.get("tensor_parallel_size") or 1
    cp = config.get("context_parallel_size") or 1
    shard, replicas = config.get("dp_shard_size"), config.get("dp_replicate_size")
    fsdp = bool(config.get("fsdp_config"))
    sizes = {"tp_size": tp, "cp_size": cp, "dp_shard_size": shard or 1, "dp_replicate_size": replicas or 1}
    if tp > 1:
        sizes["dp_shard_size"] = world // tp
    try:
        loaded = _get_parallel_config_kwargs(world, tp, cp, shard, replicas, fsdp, 1, is_deepspeed=False)
        if loaded:
            ParallelismConfig(**loaded)
        mesh = ParallelismConfig(**sizes)
    except Exception as error:  # both raise plain exceptions of several kinds
        errors.append(f"mesh: {type(error).__name__}: {str(error).splitlines()[0]}")
        return {}
    if max(sizes.values()) > 1 and mesh.total_size != world:
        errors.append(f"mesh: sizes multiply to {mesh.total_size}, the world has {world}")
    if cp > 1 and not fsdp:
        errors.append("context_parallel_size > 1 without fsdp_config: a whole model on each GPU")
    return sizes


def _method(config: dict[str, Any], per_node: int, kv_heads: int, errors: list[str]) -> str | None:
    """The backend of context parallelism that ringmaster settles on."""
    import ringmaster
    from axolotl.integrations.context_parallel.args import ContextParallelConfig
    from axolotl.integrations.context_parallel.settings import resolve_settings
    from ringmaster.strategies.ring import resolve_ring_impl

    size = config.get("context_parallel_size") or 1
    if size == 1:
        return None
    heads = max(1, kv_heads // (config.get("tensor_parallel_size") or 1))
    asked = ContextParallelConfig.model_validate(config.get("context_parallel") or {"size": size})
    kernel = config.get("attn_implementation") or "sdpa"
    try:
        settled = ringmaster.RingmasterConfig(
            size=asked.size,
            backend=ringmaster.Backend(asked.backend),
            ulysses_size=asked.ulysses_size or ringmaster.AUTO,
            ring_size=asked.ring_size or ringmaster.AUTO,
            rotate_method=ringmaster.RotateMethod(asked.rotate_method),
            load_balance=ringmaster.LoadBalance.NONE,
            ring_impl=ringmaster.RingImpl(asked.ring_impl),
        )
        settled.normalize(num_kv_heads=heads, intra_node_size=per_node)
        packed = "packed sequences" if config.get("sample_packing") else None
        if settled.ring_size > 1 and resolve_ring_impl(settled.ring_impl, kernel) == ringmaster.RingImpl.TORCH_NATIVE:
            # integrations/context_parallel/plugin.py:208-219 refuses it once a model is there.
            raise ValueError(f"the ring over {kernel} is forward-only")
        resolve_settings(asked, settled, num_kv_heads=heads, inner_attn=kernel, contiguous_reason=packed)
        return f"{settled.backend.value} {settled.ulysses_size} x {settled.ring_size}"
    except Exception as error:  # ringmaster raises ValueError, settings raise NotImplementedError
        errors.append(f"context_parallel: {type(error).__name__}: {error}")
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
