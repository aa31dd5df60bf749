"""Keys that are missing, misspelt, old or removed.

axolotl drops a name that it does not know in silence, so a typo is an error.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cpadvisor.check.finding import Finding
from cpadvisor.check.subject import Config

_FOLDER = Path(__file__).parent

LEGACY_ATTENTION = {
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "flex_attention": "flex_attention",
    "xformers_attention": "xformers",
    "sage_attention": "sage",
    "eager_attention": "eager",
}
"""Old boolean to the value of attn_implementation (axolotl 0.21.0 utils/schemas/enums.py)."""

DEPRECATED = {
    **{key: f"write attn_implementation: {value}" for key, value in LEGACY_ATTENTION.items()},
    "sequence_parallel_degree": "write context_parallel_size",
    "ring_attn_func": "remove it: unused since axolotl 0.20; write context_parallel.backend",
    "heads_k_stride": "remove it: unused since axolotl 0.20",
    "dataset_processes": "write dataset_num_proc",
    "gc_steps": "write torch_empty_cache_steps or gc_collect_steps",
    "pretrain_multipack_buffer_size": "write streaming_multipack_buffer_size",
    "fsdp_final_state_dict_type": "write fsdp_config.final_state_dict_type",
    "evaluation_strategy": "write eval_strategy",
    "noisy_embedding_alpha": "write neftune_noise_alpha",
    "dpo_beta": "write rl_beta",
}
REMOVED = {
    "fsdp": "write fsdp_config and fsdp_version: 2",
    "max_packed_sequence_len": "write sequence_len",
    "rope_scaling": "write it under overrides_of_model_config",
    "s2_attention": "remove it",
    "flash_attn_rms_norm": "remove it",
    "fsdp_config.sharding_strategy": "write fsdp_config.reshard_after_forward",
    "fsdp_config.forward_prefetch": "remove it",
}
"""axolotl 0.20 and newer raise on these (utils/schemas/validation.py:1442-1484, deprecated.py)."""

FSDP1_IGNORED = (
    "sync_module_states",
    "backward_prefetch",
    "backward_prefetch_policy",
    "limit_all_gathers",
    "use_orig_params",
)
_PLUGIN_PREFIXES = ("liger_", "cut_cross_entropy")


@cache
def axolotl_keys() -> Mapping[str, list[str]]:
    """Names of axolotl 0.21.0 by block; `top` are the top-level ones."""
    return yaml.safe_load((_FOLDER / "axolotl_keys.yaml").read_text(encoding="utf-8"))


@cache
def trainer_keys() -> Mapping[str, list[str]]:
    """Names of the bundled trainer by what it does with them."""
    return yaml.safe_load((_FOLDER / "trainer_keys.yaml").read_text(encoding="utf-8"))


def key_rules(config: Config) -> Iterator[Finding]:
    """Everything about names."""
    yield from _missing(config)
    yield from _unknown(config)
    yield from _old(config) if config.is_axolotl else _refused_by_the_trainer(config)


def _missing(config: Config) -> Iterator[Finding]:
    required = ["base_model", "learning_rate", *([] if config.is_axolotl else ["sequence_len"])]
    for key in required:
        if config.values.get(key) is None:
            example = {"base_model": "meta-llama/Llama-3.1-8B", "learning_rate": "2e-5", "sequence_len": "8192"}[key]
            yield config.find("key-missing", "error", key, f"{key} is missing", f"write for example {key}: {example}")
    has_data = bool(config.values.get("datasets") or config.values.get("pretraining_dataset"))
    has_corpus = not config.is_axolotl and "corpus" in config.block("cpadvisor")
    if not has_data and not has_corpus:
        other = "" if config.is_axolotl else ", or cpadvisor.corpus: python-stdlib for the built-in text"
        fix = f"write datasets: [{{path: FILE, type: completion}}]{other}"
        yield config.find("key-missing", "error", "datasets", "datasets is missing or empty", fix)
    if config.is_axolotl and config.values.get("sequence_len") is None:
        message = "sequence_len is missing: axolotl takes 512"
        yield config.find("key-missing", "warning", "sequence_len", message, "write the length you train for")


def _unknown(config: Config) -> Iterator[Finding]:
    for block, known in _known_names(config).items():
        for name in _names_in(config.values, block):
            if name in known or (block == "fsdp_config" and name.removeprefix("fsdp_") in known):
                continue
            full = name if block == "top" else f"{block}.{name}"
            yield _unknown_finding(config, full, name, known)


def _known_names(config: Config) -> Mapping[str, Iterable[str]]:
    if config.is_axolotl:
        names = axolotl_keys()
        removed = {key.rpartition(".")[2] for key in REMOVED}
        return {
            **names,
            "top": {*names["top"], *removed},
            "fsdp_config": {*names["fsdp_config"], *removed, *FSDP1_IGNORED},
        }
    names = trainer_keys()
    top = {*names["honoured"], *names["accepted"], *names["refused"]}
    return {"top": top, **{block: names[block] for block in ("datasets", "fsdp_config", "cpadvisor")}}


def _names_in(values: Mapping[str, Any], block: str) -> list[str]:
    if block == "top":
        return list(values)
    found = values.get(block)
    entries = found if isinstance(found, list) else [found]
    return [str(name) for entry in entries if isinstance(entry, Mapping) for name in entry]


def _unknown_finding(config: Config, full: str, name: str, known: Iterable[str]) -> Finding:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    block = full.rpartition(".")[0]
    fix = (
        f"write {f'{block}.' if block else ''}{near[0]}" if near else "remove it, or put it where the trainer reads it"
    )
    if not config.is_axolotl:
        return config.find("key-unknown", "error", full, f"{full} is no key of the bundled trainer", fix)
    if config.values.get("plugins") and (name.startswith(_PLUGIN_PREFIXES) or not near):
        message = f"{full} is no key of axolotl itself; whether a plugin reads it cannot be seen here"
        return config.find("key-unknown", "note", full, message)
    message = f"{full} is no key of axolotl: it would be dropped in silence"
    return config.find("key-unknown", "error", full, message, fix)


def _old(config: Config) -> Iterator[Finding]:
    for key, fix in DEPRECATED.items():
        if config.values.get(key) is not None:
            yield config.find("key-deprecated", "warning", key, f"{key} is deprecated", fix)
    for key, fix in REMOVED.items():
        block, _, name = key.rpartition(".")
        found = config.fsdp(name) if block else config.values.get(name)
        if found not in (None, False, "", []):
            yield config.find("key-removed", "error", key, f"{key} is refused since axolotl 0.20", fix)
    for name in FSDP1_IGNORED:
        if config.fsdp(name) is not None:
            message = f"fsdp_config.{name} belongs to FSDP version 1 and is dropped"
            yield config.find("key-deprecated", "warning", f"fsdp_config.{name}", message, "remove it")
    prefixed = [name for name in config.block("fsdp_config") if name.startswith("fsdp_") and name != "fsdp_version"]
    for name in prefixed:
        fix = f"write fsdp_config.{name.removeprefix('fsdp_')}"
        yield config.find(
            "key-deprecated", "warning", f"fsdp_config.{name}", f"the prefix of fsdp_config.{name} is old", fix
        )


def _refused_by_the_trainer(config: Config) -> Iterator[Finding]:
    for key in trainer_keys()["refused"]:
        value = config.values.get(key)
        if value not in (None, False, "", 0, [], {}):
            message = f"{key} {value!r} asks for what the bundled trainer does not do"
            yield config.find("key-refused", "error", key, message, "remove it, or train with axolotl")
