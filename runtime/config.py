"""A config file becomes one frozen TrainConfig, or one error that lists every reason why not.

`python -m runtime.config CONFIG WORLD` asks without training and without torch: exit status 0, or 2 with the reasons.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime import keys, save_keys, yaml_loader
from runtime.config_reader import Reader
from runtime.dataset_files import CORPORA, DataSource, read_sources
from runtime.errors import ConfigError, TrainerError
from runtime.heads import read_heads
from runtime.method_keys import read_method
from runtime.settings import Batch, Compute, Optimization, Sizes, TrainConfig

RECOMPUTE_POLICIES = ("none", "attention_saved", "full")
SCHEDULES = ("cosine", "linear", "constant")
OPTIMIZERS = ("adamw_torch_fused", "adamw_torch")


def load(path: Path, *, world: int) -> TrainConfig:
    """Read and check a config for a run of `world` processes. Raises ConfigError with every reason at once."""
    path = path.resolve()
    values = yaml_loader.read(path)
    problems, warnings = keys.check_names(values)
    reader = Reader(values, folder=path.parent, problems=problems, warnings=warnings)
    own = reader.block("cpadvisor", keys.CPADVISOR)
    fsdp = reader.block("fsdp_config", keys.FSDP_CONFIG, strip="fsdp_")
    _refuse_what_is_not_done(reader, fsdp)
    output_dir = reader.path("output_dir", "model-out")
    run_dir = path.parent if (path.parent / "run.json").exists() else output_dir
    model_dir, weights_dir = _model(reader, own, path.parent, run_dir)
    sizes = _sizes(reader, own, world, model_dir)
    batch = Batch(
        sequence_len=reader.required_integer("sequence_len"),
        micro_batch=reader.integer("micro_batch_size", 1),
        accumulation=reader.integer("gradient_accumulation_steps", 1),
    )
    if "sequence_len" in values:
        _check_split(batch.sequence_len, sizes.cp, problems)
    config = TrainConfig(
        path=path,
        run_dir=run_dir,
        output_dir=output_dir,
        saves_model=save_keys.saves_model(reader),
        checkpoints=save_keys.checkpoints(reader),
        model_dir=model_dir,
        weights_dir=weights_dir,
        sources=_sources(reader, own),
        tokenizer=_tokenizer(own, model_dir, weights_dir),
        sizes=sizes,
        batch=batch,
        optimization=_optimization(reader),
        compute=_compute(reader, own, fsdp),
        seed=reader.integer("seed", 42, low=0),
        warnings=tuple(warnings),
    )
    if problems:
        raise ConfigError(str(path), problems)
    return config


def _refuse_what_is_not_done(reader: Reader, fsdp: Reader) -> None:
    for name in ("dp_replicate_size", "tensor_parallel_size"):
        if reader.integer(name, 1) > 1:
            reader.problem(
                f"{name} {reader.values[name]}: the bundled trainer does not do {name} above 1 yet; set it to 1"
            )
    if reader.flag("sample_packing", False):
        reader.problem("sample_packing true: the bundled trainer does not pack documents; set it to false")
    if reader.number("val_set_size", 0.0) > 0:
        reader.problem(
            f"val_set_size {reader.values['val_set_size']}: the bundled trainer does not evaluate; set it to 0"
        )
    for block, name in ((reader, "fsdp_version"), (fsdp, "version")):
        if block.integer(name, 2) != 2:
            block.problem(
                f"{block.prefix}{name} {block.values[name]}: the bundled trainer has FSDP version 2 only; set it to 2"
            )
    if fsdp.flag("offload_params", False):
        reader.problem("fsdp_config.offload_params true: the bundled trainer does not offload; set it to false")


def _sizes(reader: Reader, own: Reader, world: int, model_dir: Path) -> Sizes:
    cp = reader.integer("context_parallel_size", 1)
    dp_shard = reader.integer("dp_shard_size", max(world // cp, 1))
    if dp_shard * cp != world:
        reader.problem(
            f"dp_shard_size {dp_shard} x context_parallel_size {cp} is {dp_shard * cp}, but processes started: "
            f"{world}; start {dp_shard * cp}, or choose sizes whose product is {world}"
        )
    method, ulysses = read_method(own, cp=cp, heads=read_heads(model_dir))
    return Sizes(dp_shard=dp_shard, cp=cp, rank_order=_rank_order(reader, own), method=method, ulysses=ulysses)


def _rank_order(reader: Reader, own: Reader) -> tuple[int, ...] | None:
    order = own.values.get("rank_order")
    if order is None:
        return None
    if (
        not isinstance(order, list)
        or any(type(gpu) is not int or gpu < 0 for gpu in order)
        or len(set(order)) < len(order)
    ):
        reader.problem(
            f"cpadvisor.rank_order {order!r} is not a list of different GPU indices; write for example [0, 1]"
        )
        return None
    return tuple(order)


def _check_split(sequence_len: int, cp: int, problems: list[str]) -> None:
    chunks = 2 * cp
    if cp == 1 or sequence_len % chunks == 0:
        return
    below = max(sequence_len // chunks, 1) * chunks
    problems.append(
        f"sequence_len {sequence_len} does not split into {chunks} equal chunks (context_parallel_size {cp}); "
        f"use {below} or {below + chunks}"
    )


def _model(reader: Reader, own: Reader, folder: Path, run_dir: Path) -> tuple[Path, Path | None]:
    base = reader.path("base_model", "")
    if not isinstance(reader.values.get("base_model"), str):
        reader.problem("base_model is missing; write the folder that holds the model's config.json")
        return base, None
    random = own.flag("random_weights", False) or reader.flag("reinit_weights", False)
    shapes = [place for place in (folder / "model", run_dir / "model", base) if (place / "config.json").is_file()]
    if not shapes:
        reader.problem(
            f"base_model {reader.values['base_model']!r} is no folder with a config.json; "
            "download the model and write its folder"
        )
        return base, None
    if random:
        return shapes[0], None
    if not any(base.glob("*.safetensors")):
        reader.problem(
            f"base_model {reader.values['base_model']!r} holds no *.safetensors; write a folder that does, "
            "or set cpadvisor.random_weights: true"
        )
    return shapes[0], base


def _sources(reader: Reader, own: Reader) -> tuple[DataSource, ...]:
    datasets = reader.values.get("datasets")
    corpus = own.choice("corpus", CORPORA[0], CORPORA)
    if datasets is not None:
        if "corpus" in own.values:
            reader.problem(f"datasets and cpadvisor.corpus {corpus} are both given; remove one of them")
        return read_sources(datasets, reader)
    if "corpus" not in own.values:
        reader.problem(f"datasets is missing; write it, or cpadvisor.corpus: {CORPORA[0]} for the built-in text")
    return ()


def _tokenizer(own: Reader, model_dir: Path, weights_dir: Path | None) -> Path | None:
    name = own.values.get("tokenizer")
    if name == "bytes":
        return None
    if name is not None:
        path = own.path("tokenizer", "")
        if not path.is_file():
            own.problem(f"cpadvisor.tokenizer {name!r} is no file; write the path of a tokenizer.json, or bytes")
        return path
    for folder in (weights_dir, model_dir):
        if folder is not None and (folder / "tokenizer.json").is_file():
            return folder / "tokenizer.json"
    if weights_dir is not None:
        own.problem(f"{weights_dir} holds no tokenizer.json; write its path as cpadvisor.tokenizer")
    return None


def _optimization(reader: Reader) -> Optimization:
    if "warmup_steps" in reader.values and "warmup_ratio" in reader.values:
        reader.problem("warmup_steps and warmup_ratio are both given; remove one of them")
    if reader.values.get("num_epochs") == 0 and reader.values.get("max_steps") is None:
        reader.problem("num_epochs 0 trains nothing; use 1, or write max_steps")
    return Optimization(
        learning_rate=reader.required_number("learning_rate"),
        schedule=reader.choice("lr_scheduler", "cosine", SCHEDULES),
        warmup_steps=reader.optional_integer("warmup_steps", low=0),
        warmup_ratio=reader.number("warmup_ratio", 0.0, high=1.0),
        weight_decay=reader.number("weight_decay", 0.0),
        beta1=reader.number("adam_beta1", 0.9, high=1.0, below=True),
        beta2=reader.number("adam_beta2", 0.999, high=1.0, below=True),
        epsilon=reader.number("adam_epsilon", 1e-8),
        max_grad_norm=reader.number("max_grad_norm", 1.0),
        fused=reader.choice("optimizer", OPTIMIZERS[0], OPTIMIZERS) == "adamw_torch_fused",
        max_steps=reader.optional_integer("max_steps"),
        num_epochs=reader.number("num_epochs", 1.0),
    )


def _compute(reader: Reader, own: Reader, fsdp: Reader) -> Compute:
    bf16 = reader.values.get("bf16", "auto")
    checkpointing = reader.flag("gradient_checkpointing", False) or fsdp.flag("activation_checkpointing", False)
    return Compute(
        bf16=None if bf16 in ("auto", None) else reader.flag("bf16", False),
        tf32=reader.values.get("tf32") in (None, "auto") or reader.flag("tf32", False),
        recompute=_recompute(own) or (("full" if checkpointing else "none", None),),
        reshard_after_forward=fsdp.flag("reshard_after_forward", True),
    )


def _recompute(own: Reader) -> tuple[tuple[str, int | None], ...]:
    asked: Any = own.values.get("recompute")
    if asked is None:
        return ()
    if not isinstance(asked, Mapping) or any(type(layers) is not int or layers < 0 for layers in asked.values()):
        own.problem(
            f"cpadvisor.recompute {asked!r} is not a mapping of policy to layers; write for example {{full: 32}}"
        )
        return ()
    for policy in asked:
        if policy not in RECOMPUTE_POLICIES:
            own.problem(
                f"cpadvisor.recompute {policy!r} is not a policy of this trainer; use {', '.join(RECOMPUTE_POLICIES)}"
            )
    return tuple((str(policy), layers) for policy, layers in asked.items() if layers)


def main(argv: Sequence[str]) -> int:
    """Check a config for a run of so many processes; the reasons against it go to stderr."""
    path, world = argv
    try:
        load(Path(path), world=int(world))
    except TrainerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
