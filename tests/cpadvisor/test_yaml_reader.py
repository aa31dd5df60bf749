"""YAML with numbers as numbers and no duplicate keys."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cpadvisor.errors import ConfigError
from cpadvisor.yaml_reader import DuplicateKeyError, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [("2e-5", 2e-5), ("1E-4", 1e-4), ("-3e+2", -300.0), ("1.5e3", 1500.0), (".5e1", 5.0), ("1.e-3", 1e-3)],
)
def test_a_number_with_an_exponent_is_a_number(text, value):
    values, _ = read_yaml(f"learning_rate: {text}\n", name="c.yaml")
    assert values == {"learning_rate": value}


@pytest.mark.parametrize("text", ["'2e-5'", "e5", "2e", "2e5x", "0x2e"])
def test_what_is_no_number_stays_what_it_was(text):
    values, _ = read_yaml(f"a: {text}\n", name="c.yaml")
    assert values == yaml.safe_load(f"a: {text}\n")


def test_lines_of_keys_count_from_one():
    _, lines = read_yaml("# head\n\na: 1\nb:\n  c: 2\nd: 3\n", name="c.yaml")
    assert lines == {"a": 3, "b": 4, "d": 6}


def test_a_duplicate_key_names_both_lines():
    with pytest.raises(DuplicateKeyError, match=r"c\.yaml:3: key 'a' on line 3 stands on line 1 already"):
        read_yaml("a: 1\nb: 2\na: 3\n", name="c.yaml")


def test_a_nested_duplicate_is_named_by_its_path():
    with pytest.raises(DuplicateKeyError, match=r"key 'datasets\.path' on line 3"):
        read_yaml("datasets:\n  - path: x\n    path: y\n", name="c.yaml")


def test_every_duplicate_is_told_at_once():
    # The card's scenarios 1A and 1B in one block (row C3).
    first = "dp_shard_size: 4\ncontext_parallel_size: 2\n"
    card = first + "dp_shard_size: 2\ntensor_parallel_size: 2\ncontext_parallel_size: 2\n"
    with pytest.raises(DuplicateKeyError, match=r"'dp_shard_size' on line 3.*'context_parallel_size' on line 5"):
        read_yaml(card, name="card.yaml")


def test_anchors_and_merges_are_no_duplicates():
    text = "base: &base\n  a: 1\nother:\n  <<: *base\n  a: 2\n"
    assert read_yaml(text, name="c.yaml")[0]["other"] == {"a": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n- b\n", "c.yaml:1: holds a list"),
        ("hello\n", "c.yaml:1: holds one value"),
        ("a: 1\nb: [1, 2\n", "c.yaml:3: not YAML"),
        ("a:\n\t- b\n", "c.yaml:2: not YAML"),
        ("a: !!python/object:os.system {}\n", "not YAML"),
        ("a: 2026-99-99\n", "holds a value that YAML cannot read"),
        ("a: !!bool maybe\n", "holds a value that YAML cannot read"),
        ("a: !!timestamp soon\n", "holds a value that YAML cannot read"),
        ("1: a\n", "the key 1 is no text"),
        ("a: \x00\n", "not YAML"),
    ],
)
def test_what_is_no_config_is_a_config_error_with_its_place(text, words):
    with pytest.raises(ConfigError, match=words):
        read_yaml(text, name="c.yaml")


@given(st.text(alphabet="abc:-# \n[]{}&*!'\"012eE.,<", max_size=60))
def test_any_text_is_read_as_yaml_reads_it_or_refused(text):
    try:
        values, lines = read_yaml(text, name="c.yaml")
    except ConfigError:
        return
    assert set(lines) <= set(values)
