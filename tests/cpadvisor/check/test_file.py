"""Checking a file."""

import json

import pytest

from cpadvisor.catalog import config_json, find_model
from cpadvisor.check import check_file, findings_json
from cpadvisor.errors import ConfigError, UsageError

MINIMAL = """\
base_model: meta-llama/Llama-3.1-8B
context_parallel_size: 2
micro_batch_size: 1
sequence_len: 8192
datasets:
  - path: tatsu-lab/alpaca
    type: alpaca
output_dir: ./out
bf16: true
flash_attention: true
"""
"""The card's minimal config, row C1."""


@pytest.fixture
def rules(tmp_path):
    def check(text, **options):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return {finding.rule: finding for finding in check_file(path, **options)}

    return check


def test_the_cards_minimal_config_lacks_a_learning_rate_and_on_eight_gpus_the_shard_size(rules):
    found = rules(MINIMAL, gpus=8)
    assert found["key-missing"].key == "learning_rate"
    assert found["dp-shard-explicit"].fix == "write dp_shard_size: 4"
    assert found["key-deprecated"].key == "flash_attention"
    assert "dp-shard-explicit" not in rules(MINIMAL, gpus=2)


def test_a_block_of_ours_makes_it_the_bundled_trainers_file(rules):
    text = MINIMAL + "learning_rate: 2e-5\ntensor_parallel_size: 2\ncpadvisor: {method: ring}\n"
    assert "engine-axes" in rules(text)
    assert "engine-axes" not in rules(text, engine="axolotl-0.20")


def test_a_learning_rate_without_a_dot_is_a_number(rules):
    assert "learning-rate" not in rules(MINIMAL + "learning_rate: 2e-5\n")


def test_a_duplicate_key_is_a_finding_of_row_c3_that_names_both_lines(rules):
    finding = rules(MINIMAL + "context_parallel_size: 4\n")["C3"]
    assert finding.severity == "error"
    assert "line 11 stands on line 2 already" in finding.message


def test_text_that_is_no_yaml_is_a_finding(rules):
    assert rules("a: [1\n")["yaml"].severity == "error"


def test_a_model_folder_beside_the_file_is_read(rules, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps(config_json(find_model("llama-3.2-1b"))))
    text = MINIMAL.replace("meta-llama/Llama-3.1-8B", "./m") + "learning_rate: 2e-5\n"
    assert "tp-tied" in rules(text.replace("context_parallel_size", "tensor_parallel_size"))
    (tmp_path / "m" / "config.json").write_text("{broken")
    assert "config.json:1" in rules(text)["model"].message


def test_a_file_that_is_not_there_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file"):
        check_file(tmp_path / "none.yaml")


@pytest.mark.parametrize("options", [{"engine": "axolotl-9"}, {"gpus": 0}])
def test_bad_flags_are_usage_errors(rules, options):
    with pytest.raises(UsageError):
        rules(MINIMAL, **options)


def test_json_is_ok_only_without_errors(rules):
    found = rules(MINIMAL)
    report = findings_json(found.values())
    assert (report["schema"], report["ok"]) == (1, False)
    assert set(report["findings"][0]) == {"rule", "severity", "key", "message", "fix"}
    assert findings_json([]) == {"schema": 1, "ok": True, "findings": []}
