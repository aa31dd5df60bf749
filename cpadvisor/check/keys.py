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
from cpadvisor.check.subject import LEGACY_ATTENTION, Config
from cpadvisor.write.edit import REMOVE
from cpadvisor.write.options import PRETRAINED_LEARNING_RATE

_FOLDER = Path(__file__).parent

RENAMED = {
    "sequence_parallel_degree": "context_parallel_size",
    "dataset_processes": "dataset_num_proc",
    "pretrain_multipack_buffer_size": "streaming_multipack_buffer_size",
    "fsdp_final_state_dict_type": "fsdp_config.final_state_dict_type",
    "evaluation_strategy": "eval_strategy",
    "noisy_embedding_alpha": "neftune_noise_alpha",
    "dpo_beta": "rl_beta",
    "max_packed_sequence_len": "sequence_len",
    "rope_scaling": "overrides_of_model_config.rope_scaling",
}
"""Old name to the one that took its place."""
UNUSED = ("ring_attn_func", "heads_k_stride", "s2_attention", "flash_attn_rms_norm", "fsdp_config.forward_prefetch")
"""Names that nothing reads any more."""

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
    """What no trainer starts without; the card's smallest config (row C1) lacks the rate."""
    required = ["base_model", "learning_rate", *([] if config.is_axolotl else ["sequence_len"])]
    for key in required:
        if config.values.get(key) is None:
            example = {"base_model": "meta-llama/Llama-3.1-8B", "learning_rate": "2e-5", "sequence_len": "8192"}[key]
            changes = {key: PRETRAINED_LEARNING_RATE} if key == "learning_rate" else None
            fix = f"write for example {key}: {example}"
            yield config.find("key-missing", "error", key, f"{key} is missing", fix, changes)
    has_data = bool(config.values.get("datasets") or config.values.get("pretraining_dataset"))
    has_corpus = not config.is_axolotl and "corpus" in config.block("cpadvisor")
    if not has_data and not has_corpus:
        other = "" if config.is_axolotl else ", or cpadvisor.corpus: python-stdlib for the built-in text"
        fix = f"write datasets: [{{path: FILE, type: completion}}]{other}"
        changes = None if config.is_axolotl else {"cpadvisor.corpus": "python-stdlib", **_gone(config, "datasets")}
        yield config.find("key-missing", "error", "datasets", "datasets is missing or empty", fix, changes)
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
    changes = config.renamed(full, f"{block}.{near[0]}" if block else near[0]) if near else {full: REMOVE}
    if block and not config.block(block):
        changes = None  # an entry of a list
    if not config.is_axolotl:
        return config.find("key-unknown", "error", full, f"{full} is no key of the bundled trainer", fix, changes)
    if config.values.get("plugins") and (name.startswith(_PLUGIN_PREFIXES) or not near):
        message = f"{full} is no key of axolotl itself; whether a plugin reads it cannot be seen here"
        return config.find("key-unknown", "note", full, message)
    message = f"{full} is no key of axolotl: it would be dropped in silence"
    return config.find("key-unknown", "error", full, message, fix, changes)


def _old(config: Config) -> Iterator[Finding]:
    for key, fix in DEPRECATED.items():
        if config.values.get(key) is not None:
            yield config.find("key-deprecated", "warning", key, f"{key} is deprecated", fix, _successor(config, key))
    for key, fix in REMOVED.items():
        block, _, name = key.rpartition(".")
        found = config.fsdp(name) if block else config.values.get(name)
        if found not in (None, False, "", []):
            message = f"{key} is refused since axolotl 0.20"
            yield config.find("key-removed", "error", key, message, fix, _successor(config, key))
    for name in FSDP1_IGNORED:
        if config.fsdp(name) is not None:
            message = f"fsdp_config.{name} belongs to FSDP version 1 and is dropped"
            full = config.fsdp_key(name)
            yield config.find("key-deprecated", "warning", full, message, "remove it", {full: REMOVE})
    prefixed = [name for name in config.block("fsdp_config") if name.startswith("fsdp_") and name != "fsdp_version"]
    for name in prefixed:
        full, new = f"fsdp_config.{name}", f"fsdp_config.{name.removeprefix('fsdp_')}"
        message = f"the prefix of {full} is old"
        yield config.find("key-deprecated", "warning", full, message, f"write {new}", config.renamed(full, new))


def _successor(config: Config, key: str) -> dict[str, Any]:
    """The changes that write an old key as it is written now; none where that is open."""
    if key in LEGACY_ATTENTION:
        chosen = config.values.get(key) is True and config.values.get("attn_implementation") is None
        return {key: REMOVE, **({"attn_implementation": LEGACY_ATTENTION[key]} if chosen else {})}
    if key in RENAMED:
        return config.renamed(key, RENAMED[key])
    if key == "fsdp":
        return {key: REMOVE, **config.with_sharding()}
    full = config.fsdp_key(key.rpartition(".")[2]) if "." in key else key
    if key == "fsdp_config.sharding_strategy":
        whole = str(config.fsdp("sharding_strategy")) in ("SHARD_GRAD_OP", "2")
        written = config.fsdp("reshard_after_forward") is not None
        return {full: REMOVE} if written else {"fsdp_config.reshard_after_forward": not whole, full: REMOVE}
    return {full: REMOVE} if key in UNUSED else {}


def _gone(config: Config, key: str) -> dict[str, Any]:
    return {} if key not in config.values else {key: REMOVE}


def _refused_by_the_trainer(config: Config) -> Iterator[Finding]:
    for key in trainer_keys()["refused"]:
        value = config.values.get(key)
        if value not in (None, False, "", 0, [], {}):
            message = f"{key} {value!r} asks for what the bundled trainer does not do"
            yield config.find("key-refused", "error", key, message, "remove it, or train with axolotl", {key: REMOVE})
