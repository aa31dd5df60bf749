from pathlib import Path

import pytest
from gloo_pool import GlooPool
from tiny_run import make_trainer, silent, write_folder

from runtime import traffic
from runtime.errors import ConfigError
from runtime.recompute import policy_of_layers


def messages_of_one_pass(rank: int, world: int, path: Path) -> int:
    trainer = make_trainer(path)
    (group,) = trainer.mesh.sequence_groups
    traffic.take(group.group_name)  # of earlier jobs of this process
    trainer.accumulate(0, silent(path.parent))
    return traffic.take(group.group_name).messages


@pytest.mark.parametrize(
    ("policy", "messages_a_layer"),
    [
        # cp 2: K and V once forward; backward K and V once more, and their gradients.
        ("none", 3),
        ("attention_saved", 3),
        # The ring runs a second time before the layer's backward.
        ("full", 4),
    ],
)
def test_only_full_recomputation_sends_keys_and_values_again(
    gloo_pool: GlooPool, tmp_path: Path, policy: str, messages_a_layer: int
) -> None:
    own = {"random_weights": True, "tokenizer": "bytes", "recompute": {policy: 2}}
    path = write_folder(tmp_path, context_parallel_size=2, cpadvisor=own)
    assert gloo_pool.run(2, messages_of_one_pass, path) == [2 * messages_a_layer] * 2


def test_policies_go_to_layers_in_the_order_they_are_written() -> None:
    assert policy_of_layers((("full", 2), ("none", 1)), 3) == ("full", "full", "none")
    assert policy_of_layers((("attention_saved", None),), 2) == ("attention_saved", "attention_saved")


def test_policies_that_do_not_add_up_name_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"\{full: 30\} names 30 layers, the model has 32"):
        policy_of_layers((("full", 30),), 32)
