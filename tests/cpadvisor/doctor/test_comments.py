"""After a change the header and the comments of a written file say what the file holds now."""

import yaml

from cpadvisor.doctor.comments import with_true_comments
from cpadvisor.write.edit import REMOVE, as_changes, edited

WRITTEN = """\
# tiny, 2,048 tokens, cpadvisor, dp_shard 2 × cp 4 on 2 x dgx-h100; written by cpadvisor
# Predicted peak: 464 MiB (395 MiB to 533 MiB) of 11.8 GiB on each GPU
# Start: axolotl train c.yaml --launcher torchrun -- --nproc_per_node=4
# Behind each line stands what decided it: model, plan, flag, card, trainer or default.

base_model: tiny              # model
sequence_len: 2048            # flag
micro_batch_size: 1           # my own choice
gradient_accumulation_steps: 1  # plan: F2, 1 x 1 x 2 data ranks = 2 sequences a step
dp_shard_size: 2              # plan: parameters are sharded over 8 GPUs (dp_shard x cp)
context_parallel_size: 4      # plan: each sequence is cut
fsdp_config:                  # card: C2
  reshard_after_forward: true
cpadvisor:                    # plan: what axolotl has no key for
  method: none
  corpus: "a # b"
"""


def changed(values, text=WRITTEN):
    changes = as_changes(values)
    new = with_true_comments(text, edited(text, changes), [change.key for change in changes])
    assert yaml.safe_load(new) == yaml.safe_load(edited(text, changes)), "comments alone differ"
    return new.splitlines()


def test_the_first_line_has_the_new_length_and_its_line_says_doctor():
    lines = changed({"sequence_len": 1024})
    assert lines[0] == "# tiny, 1,024 tokens, cpadvisor, dp_shard 2 × cp 4 on 2 x dgx-h100; written by cpadvisor"
    assert "sequence_len: 1024            # doctor" in lines
    assert "# Behind each line stands what decided it: model, plan, flag, card, trainer, default or doctor." in lines
    assert not any(line.startswith("# Predicted") for line in lines)
    assert any(line.startswith("# Start") for line in lines)


def test_a_second_change_keeps_the_first_line_true():
    text = "\n".join(changed({"sequence_len": 1024})) + "\n"
    assert changed({"sequence_len": 512}, text)[0].startswith("# tiny, 512 tokens, ")


def test_other_sizes_stand_in_the_first_line_and_their_products_are_told_no_longer():
    lines = changed({"context_parallel_size": 2, "dp_shard_size": 4})
    assert lines[0] == "# tiny, 2,048 tokens, cpadvisor, dp_shard 4 × cp 2 on 2 x dgx-h100; written by cpadvisor"
    assert "gradient_accumulation_steps: 1  # plan" in lines
    assert any(line.startswith("# Start") for line in lines)


def test_another_number_of_gpus_leaves_neither_the_machine_nor_its_command():
    lines = changed({"context_parallel_size": 2})
    assert lines[0] == "# tiny, 2,048 tokens, cpadvisor, dp_shard 2 × cp 2; written by cpadvisor"
    assert "dp_shard_size: 2              # plan" in lines
    assert not any(line.startswith("# Start") for line in lines)


def test_a_line_without_a_comment_of_ours_gets_one_and_the_user_s_own_words_stay():
    lines = changed({"cpadvisor.method": "ring", "seed": 7, "micro_batch_size": 2, "cpadvisor.recompute": {"full": 2}})
    assert {"  method: ring  # doctor", "seed: 7  # doctor", "  recompute:  # doctor"} <= set(lines)
    assert "micro_batch_size: 2           # my own choice" in lines
    assert "cpadvisor:                    # plan: what axolotl has no key for" in lines


def test_a_key_set_to_what_it_was_or_taken_out_changes_no_comment():
    assert changed({"sequence_len": 2048}) == WRITTEN.splitlines()
    assert changed({"cpadvisor.corpus": REMOVE})[5:-1] == WRITTEN.splitlines()[5:-2]


def test_a_file_that_was_written_by_hand_gets_no_comments():
    text = "base_model: tiny\nsequence_len: 2048\n"
    assert changed({"sequence_len": 1024}, text) == ["base_model: tiny", "sequence_len: 1024"]


def test_line_ends_and_texts_over_several_lines_stay_whole():
    text = WRITTEN.replace("\n", "\r\n") + 'note: "one\r\n  two"\r\n'
    new = edited(text, as_changes({"seed": 7}))
    assert with_true_comments(text, new, ["seed", "note"]) == new.replace("seed: 7", "seed: 7  # doctor").replace(
        ", trainer or default.", ", trainer, default or doctor."
    )
