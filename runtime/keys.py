"""The keys of a config file: what this trainer honours, what has no effect here, what it refuses and why.

Names and meanings are axolotl's. A key in none of the tables is refused with
the nearest known name, so that nothing is dropped in silence.
"""

import difflib
from collections.abc import Iterable, Mapping

HONOURED: Mapping[str, str] = {
    "base_model": "folder with config.json, and the weights unless cpadvisor.random_weights",
    "reinit_weights": "as cpadvisor.random_weights",
    "datasets": "list of {path, type: completion, ds_type: text or json, field}; a text file is one document",
    "output_dir": "where the trained model is written",
    "sequence_len": "tokens of one sequence, over all ranks of its context-parallel group",
    "micro_batch_size": "sequences a data rank works on at once",
    "gradient_accumulation_steps": "micro-batches of one optimizer step",
    "max_steps": "optimizer steps; without it num_epochs decides",
    "num_epochs": "passes over the data",
    "learning_rate": "peak of the schedule",
    "lr_scheduler": "cosine, linear or constant, after the warm-up",
    "warmup_steps": "steps of linear rise to the peak",
    "warmup_ratio": "warm-up as a share of all steps",
    "weight_decay": "on matrices and embeddings, not on norms and biases",
    "adam_beta1": "decay of the first moment",
    "adam_beta2": "decay of the second moment",
    "adam_epsilon": "added to the root of the second moment",
    "max_grad_norm": "gradients are scaled down to this global norm; 0 leaves them",
    "optimizer": "adamw_torch_fused or adamw_torch",
    "seed": "decides random weights and the order of data, whatever the layout",
    "bf16": "bfloat16 computation on float32 weights: on GPUs always, on a CPU never; auto is right on both",
    "tf32": "TensorFloat-32 where a matrix product on a GPU is float32",
    "gradient_checkpointing": "true recomputes every layer; cpadvisor.recompute is finer",
    "dp_shard_size": "data ranks over which parameters are sharded; without it all that context_parallel_size leaves",
    "dp_replicate_size": "only 1",
    "tensor_parallel_size": "only 1",
    "context_parallel_size": "ranks over which each sequence is split",
    "fsdp_version": "only 2",
    "fsdp_config": "reshard_after_forward is honoured; other known sub-keys have no effect",
    "sample_packing": "only false",
    "val_set_size": "only 0",
    "save_strategy": "`no` writes no model, else it is written at the end; `steps` writes training states on the way",
    "save_steps": "steps from one training state to the next, or below 1 the share of all steps; 500 without it",
    "save_total_limit": "how many of the last training states are kept; 2 without it",
    "cpadvisor": "what axolotl has no key for; see CPADVISOR",
}

ACCEPTED: Mapping[str, str] = {
    "attn_implementation": "the trainer picks its own kernel and names it in the start event",
    "flash_attention": "the trainer picks its own kernel and names it in the start event",
    "logging_steps": "every step is logged",
    "save_safetensors": "the model is always written as safetensors",
    "saves_per_epoch": "the model is written once, at the end",
    "dataloader_num_workers": "tokens lie in memory, no worker is needed",
    "dataloader_pin_memory": "batches for a GPU are always pinned",
    "dataset_prepared_path": "nothing is cached on disk",
    "pad_to_sequence_len": "the last piece of a document is always padded",
    "train_on_inputs": "completion data is trained on every token",
    "gradient_checkpointing_kwargs": "recomputation is never re-entrant here",
    "chunked_cross_entropy": "the loss is always computed in chunks",
    "accelerator_config": "gradients are reduced in every micro-batch, so they always stay sharded",
    "model_type": "the class follows from config.json",
    "tokenizer_type": "the tokenizer follows from tokenizer.json",
    "ring_attn_func": "cpadvisor.method says how attention is split",
    "heads_k_stride": "cpadvisor.method says how attention is split",
}

REFUSED: Mapping[str, str] = {
    "adapter": "the bundled trainer trains all weights; remove it, or train with axolotl",
    "load_in_8bit": "the bundled trainer trains all weights; set it to false, or train with axolotl",
    "load_in_4bit": "the bundled trainer trains all weights; set it to false, or train with axolotl",
    "deepspeed": "the bundled trainer shards with FSDP2; remove it and write fsdp_version: 2",
    "fsdp": "the list form is FSDP version 1; remove it and write fsdp_version: 2",
    "fp16": "the bundled trainer computes in bfloat16 or float32; write bf16: auto",
    "plugins": "plugins are axolotl's; remove them (the loss is computed in chunks without one)",
    "torch_compile": "the bundled trainer does not compile; remove it",
    "activation_offloading": "the bundled trainer does not offload yet; use cpadvisor.recompute",
    "chat_template": "the bundled trainer reads plain text; remove it, or train with axolotl",
    "group_by_length": "the order of data follows from seed alone; remove it",
    "tokenizer_config": "write the path of tokenizer.json as cpadvisor.tokenizer",
    "pretraining_dataset": "write the files as datasets",
    "sequence_parallel_degree": "it is the old name; write context_parallel_size",
    "context_parallel": "write context_parallel_size, and the method as cpadvisor.method",
    "wandb_project": "the run's events file holds every figure; remove it",
    "eval_steps": "the bundled trainer does not evaluate; remove it",
    "evals_per_epoch": "the bundled trainer does not evaluate; remove it",
    "resume_from_checkpoint": "a run goes on in its own directory, with cpadvisor launch --resume RUN; remove it",
}
"""Refused when they ask for something; empty, false and zero ask for nothing."""

DATASET: Mapping[str, str] = {
    "path": "a file",
    "type": "completion",
    "ds_type": "text or json (one JSON object a line); without it the file's suffix decides",
    "field": "the key of the text in each row of JSON",
}

FSDP_CONFIG: Mapping[str, str] = {
    "reshard_after_forward": "true frees gathered layers after their forward pass",
    "offload_params": "only false",
    "activation_checkpointing": "as gradient_checkpointing",
    "version": "only 2",
    "cpu_ram_efficient_loading": "no rank ever holds the whole model",
    "cpu_offload_pin_memory": "nothing is offloaded",
    "state_dict_type": "the model is written whole",
    "final_state_dict_type": "the model is written whole",
    "auto_wrap_policy": "every decoder layer is a group",
    "transformer_layer_cls_to_wrap": "every decoder layer is a group",
    "mixed_precision_policy": "bf16 decides",
    "sync_module_states": "weights follow from seed or file on every rank",
    "use_orig_params": "FSDP2 always does",
}

CPADVISOR: Mapping[str, str] = {
    "method": "how K and V meet the queries: ring, allgather, ulysses, usp; none only with context_parallel_size 1",
    "ulysses_degree": "ranks that exchange heads under method usp, neighbours; without it the most that heads allow",
    "recompute": "{policy: layers} with none, attention_saved, full; the layers add up to the model's",
    "rank_order": "the GPU of each local rank",
    "random_weights": "start from weights drawn from seed",
    "model": "the catalogue's name of the model; config.json decides",
    "corpus": "python-stdlib, when there are no datasets",
    "tokenizer": "path of a tokenizer.json, or bytes",
    "prediction": "what the planner expects; shown, not used",
}


def unknown(name: str, known: Iterable[str], block: str = "") -> str:
    """The refusal of a name, with the nearest known one."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    hint = f"did you mean {block}{near[0]}?" if near else "remove it; runtime/keys.py lists the keys that are honoured"
    return f"unknown key {block}{name}; {hint}"


def check_names(values: Mapping[str, object]) -> tuple[list[str], list[str]]:
    """Problems and warnings of the top-level names."""
    problems: list[str] = []
    warnings: list[str] = []
    for name, value in values.items():
        if name in HONOURED:
            continue
        if name in ACCEPTED:
            warnings.append(f"{name} has no effect here: {ACCEPTED[name]}")
        elif name not in REFUSED:
            problems.append(unknown(name, (*HONOURED, *ACCEPTED)))
        elif value not in (None, False, "", 0, [], {}):
            problems.append(f"{name}: {REFUSED[name]}")
    return problems, warnings
