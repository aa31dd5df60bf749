"""A model small enough for a test, real text, and the config files that train the one on the other."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.distributed.tensor import DTensor

from runtime import config as configs
from runtime import data, dataset_files, mesh, model_shape, parallel, recompute, tokenizer, weights
from runtime.reporter import Reporter
from runtime.trainer import Trainer

SHAPE = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 384,
    "tie_word_embeddings": False,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
}

CONFIG = {
    "base_model": "model",
    "datasets": [{"path": "text.txt", "type": "completion"}],
    "output_dir": "out",
    "sequence_len": 128,
    "max_steps": 4,
    "learning_rate": 3e-3,
    "seed": 7,
    "cpadvisor": {"random_weights": True, "tokenizer": "bytes"},
}


def write_folder(folder: Path, *, shape: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A folder with model, text and config.yaml; None removes a key. The config's path."""
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text(json.dumps({**SHAPE, **(shape or {})}))
    # Source of the standard library: text with structure that a tiny model learns in some steps.
    (folder / "text.txt").write_text(Path(str(argparse.__file__)).read_text())
    values = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def make_trainer(path: Path) -> Trainer:
    """The trainer of this rank, inside an initialised default group."""
    world = torch.distributed.get_world_size()
    config = configs.load(path, world=world)
    shape = model_shape.load(config.model_dir, sequence_len=config.batch.sequence_len)
    dataset = data.build(
        dataset_files.documents(config.sources),
        tokenizer.load(config.tokenizer),
        sequence_len=config.batch.sequence_len,
        vocab_size=shape.vocab_size,
        name="text",
    )
    place = mesh.make_mesh(config.sizes, torch.device("cpu"))
    model = parallel.build(
        shape,
        mesh=place,
        kernel="cpu",
        policies=recompute.policy_of_layers(config.compute.recompute, shape.layers),
        source=weights.source(config.weights_dir, seed=config.seed, std=shape.initializer_range),
        bf16=False,
    )
    return Trainer(config, model=model, mesh=place, dataset=dataset)


def silent(folder: Path) -> Reporter:
    """A reporter whose events nobody reads."""
    return Reporter(folder / f"events-{torch.distributed.get_rank()}", rank=torch.distributed.get_rank())


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor of all ranks together."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()
