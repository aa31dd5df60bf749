"""A name, a folder or a config.json becomes a ModelSpec; a key or a product name becomes a GpuSpec.

The values stand in catalog.yaml and hardware.yaml beside this file, with their sources.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from cpadvisor.errors import ModelError, UsageError
from cpadvisor.hardware import GpuSpec
from cpadvisor.hf_config import config_json, model_from_config
from cpadvisor.model import ModelSpec
from cpadvisor.units import MIB

__all__ = [
    "config_json",
    "find_gpu",
    "find_model",
    "load_gpus",
    "load_models",
    "model_from_config",
    "published_parameters",
    "require_gpu",
]

_FOLDER = Path(__file__).parent
_RATES = {
    "peak_tflops": ("peak_flops_per_s", 1e12),
    "matmul_tflops": ("matmul_flops_per_s", 1e12),
    "attention_forward_tflops": ("attention_forward_flops_per_s", 1e12),
    "attention_backward_tflops": ("attention_backward_flops_per_s", 1e12),
    "hbm_gb_per_s": ("hbm_bytes_per_s", 1e9),
    "nvlink_gb_per_s": ("nvlink_bytes_per_s", 1e9),
    "pcie_gb_per_s": ("pcie_bytes_per_s", 1e9),
}
"""Value in hardware.yaml to the field of GpuSpec and the size of its unit."""


@cache
def _model_rows() -> Mapping[str, Mapping[str, Any]]:
    return yaml.safe_load((_FOLDER / "catalog.yaml").read_text(encoding="utf-8"))


@cache
def load_models() -> Mapping[str, ModelSpec]:
    """The shipped shapes by name, in the order of catalog.yaml."""
    return MappingProxyType({name: _model(name, row) for name, row in _model_rows().items()})


def published_parameters() -> Mapping[str, int]:
    """The published count of each shipped model, to compare with what its shape adds up to."""
    return {name: row["parameters"] for name, row in _model_rows().items()}


def _model(name: str, row: Mapping[str, Any]) -> ModelSpec:
    fields = {key: value for key, value in row.items() if key not in ("parameters", "rope_scaling")}
    scaling = row.get("rope_scaling")
    return ModelSpec(name=name, rope_scaling=tuple(sorted(scaling.items())) if scaling else None, **fields)


def find_model(name_or_path: str) -> ModelSpec:
    """The shape of a catalogue name, a hub name of the catalogue, a folder with config.json, or a config.json.

    A folder that holds weights becomes the model's `hub_id`, so that a written config can name it.
    """
    models = load_models()
    wanted = name_or_path.strip()
    if wanted.lower() in models:
        return models[wanted.lower()]
    for spec in models.values():
        if spec.hub_id is not None and spec.hub_id.lower() == wanted.lower():
            return spec
    path = Path(wanted).expanduser()
    if wanted and path.is_dir():
        return _model_in_folder(path)
    if path.is_file():
        return _model_in_file(path)
    if wanted.endswith(".json") or wanted.startswith((".", "/", "~")):
        raise ModelError(f"{wanted}: no such file; give a config.json, its folder, or one of: {', '.join(models)}")
    raise ModelError(
        f"model {name_or_path!r} is not known; {_nearest(wanted, models, 'a folder with config.json, or ')}"
    )


def _model_in_folder(folder: Path) -> ModelSpec:
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(f"{folder} holds no config.json; give the folder of a model in Hugging Face's form")
    spec = _model_in_file(config)
    has_weights = any(True for pattern in ("*.safetensors", "*.bin") for _ in folder.glob(pattern))
    return replace(spec, hub_id=str(folder.resolve())) if has_weights else spec


def _model_in_file(path: Path) -> ModelSpec:
    try:
        text = path.read_text(encoding="utf-8")
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ModelError(
            f"{path}:{error.lineno}: not JSON: {error.msg} (column {error.colno}); fetch the model's config.json again"
        ) from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: not text in UTF-8 (byte {error.start}); give the model's config.json") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}; give a config.json that you may read") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}:1: holds a {type(config).__name__}, not an object; give the model's config.json")
    name = path.resolve().parent.name if path.name == "config.json" else path.stem
    return model_from_config(config, name or "model", where=str(path), lines=_lines_of_keys(text))


def _lines_of_keys(text: str) -> Mapping[str, int]:
    """The first line that names each key; a key of a nested object may win, which shows the reader the same word."""
    found: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        for key in re.findall(r'"(\w+)"\s*:', line):
            found.setdefault(key, number)
    return found


@cache
def load_gpus() -> Mapping[str, GpuSpec]:
    """The shipped GPUs by key, and `cpu`: one gloo process of a host."""
    document = yaml.safe_load((_FOLDER / "hardware.yaml").read_text(encoding="utf-8"))
    return MappingProxyType({key: _gpu(key, row, document["sources"]) for key, row in document["gpus"].items()})


def _gpu(key: str, row: Mapping[str, Any], sources: Mapping[str, str]) -> GpuSpec:
    sourced = {name: value for name, value in row.items() if isinstance(value, list) and name != "aliases"}
    rates: dict[str, Any] = {
        field: None if sourced[name][0] is None else sourced[name][0] * unit for name, (field, unit) in _RATES.items()
    }
    return GpuSpec(
        key=key,
        product=row["product"],
        memory_bytes=sourced["memory_mib"][0] * MIB,
        p2p=sourced["p2p"][0],
        precision=row.get("precision", "bf16"),
        aliases=tuple(row["aliases"]),
        source="; ".join(f"{name}: {sources[source]}" for name, (_, source) in sourced.items()),
        **rates,
    )


def find_gpu(key_or_product_name: str) -> GpuSpec | None:
    """The GPU of a key (`h100-80g`) or of NVML's product name (`NVIDIA H100 80GB HBM3`); None for an unknown one.

    Of the aliases that stand in the name as whole words the longest wins: `NVIDIA GH200 480GB` is no H200.
    """
    wanted = key_or_product_name.strip().lower()
    gpus = load_gpus()
    if wanted in gpus:
        return gpus[wanted]
    if "laptop" in wanted:
        return None
    matches = [(len(alias), spec) for spec in gpus.values() for alias in spec.aliases if _names(wanted, alias.lower())]
    return max(matches, key=lambda match: match[0])[1] if matches else None


def _names(product: str, alias: str) -> bool:
    return re.search(rf"(?<![a-z0-9]){re.escape(alias)}(?![a-z0-9])", product) is not None


def require_gpu(name: str) -> GpuSpec:
    """The GPU of a key or product name. Raises UsageError that lists the keys."""
    spec = find_gpu(name)
    if spec is None:
        raise UsageError(f"GPU {name!r} is not known; {_nearest(name, load_gpus())}")
    return spec


def _nearest(name: str, known: Iterable[str], also: str = "") -> str:
    names = list(known)
    wanted = name.lower().split("/")[-1]
    starting = [known_name for known_name in names if wanted and known_name.startswith(wanted)]
    near = starting[:3] or difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    hint = f"nearest: {', '.join(near)}; " if near else ""
    return f"{hint}give {also}one of: {', '.join(names)}"
