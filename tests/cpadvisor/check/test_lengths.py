"""Lengths of sequences."""

from cpadvisor.check import check_config


def test_the_cards_ten_thousand_over_three_is_an_error_that_names_both_neighbours(only):
    # Card row F3; six chunks: 1,666 x 6 = 9,996 and 1,667 x 6 = 10,002.
    sizes = {"dp_shard_size": 1, "context_parallel_size": 3, "gpus": 3}
    finding = only(engine="cpadvisor", sequence_len=10000, **sizes)
    assert (finding.rule, finding.severity, finding.key) == ("F3", "error", "sequence_len")
    assert "sequence_len 10000 does not split into 6 equal chunks (context_parallel_size 3)" in finding.message
    assert finding.fix == "write sequence_len: 9996 or 10002"


def test_axolotl_pads_so_it_is_a_warning_there(found):
    findings = found(sequence_len=10000, dp_shard_size=1, context_parallel_size=3, gpus=3, model=None)
    finding = next(item for item in findings if item.rule == "F3")
    assert finding.severity == "warning"
    assert "axolotl pads it" in finding.message
    assert finding.fix == "write sequence_len: 9996 or 10002"


def test_an_even_split_and_no_split_are_silent(found):
    assert found(engine="cpadvisor", sequence_len=16384) == ()
    assert found(engine="cpadvisor", sequence_len=16383, context_parallel_size=1, dp_shard_size=8) == ()


def test_a_length_beyond_the_models_positions_is_a_warning(only):
    finding = only(
        model="mistral-7b",
        base_model="mistralai/Mistral-7B-v0.3",
        sequence_len=65536,
        fsdp_config={"offload_params": False},
    )
    assert (finding.rule, finding.severity) == ("length-positions", "warning")
    assert "65536 exceeds the 32768 positions" in finding.message


def test_the_message_starts_with_the_line_of_the_key(tmp_path):
    values = {"sequence_len": 10000, "context_parallel_size": 3}
    findings = check_config(
        values, lines={"sequence_len": 7}, engine="cpadvisor", gpus=None, model=None, folder=tmp_path
    )
    assert next(item for item in findings if item.rule == "F3").message.startswith("line 7: ")


def test_the_change_goes_to_the_nearer_length(only):
    # Eight chunks: 32,768 lies 2 above 32,766, 32,760 lies 6 below; Llama-3.1-8B has 131,072 positions.
    assert only(sequence_len=32766).changes[0].value == 32768
    assert only(sequence_len=32763).changes[0].value == 32760
    assert only(sequence_len=32764).changes[0].value == 32760, "as near both ways"
    assert only(sequence_len=131071).changes[0].value == 131072


def test_a_longer_length_than_the_model_has_positions_for_is_not_offered(found):
    # Mistral-7B has 32,768 positions; 32,776 is the nearer one that splits.
    findings = found(model="mistral-7b", base_model="mistralai/Mistral-7B-v0.3", sequence_len=32775)
    split = next(finding for finding in findings if finding.rule == "F3")
    assert split.changes[0].value == 32768
