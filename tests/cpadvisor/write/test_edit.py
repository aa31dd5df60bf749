"""Changing a config: what was asked for, and not a byte elsewhere."""

import difflib

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cpadvisor.catalog import find_model, require_gpu
from cpadvisor.errors import ConfigError
from cpadvisor.node import Gpu, Node
from cpadvisor.plan.search import advise
from cpadvisor.plan.workload import ENGINES, Workload
from cpadvisor.write.config import WriteOptions, config_document
from cpadvisor.write.edit import REMOVE, Change, edited
from cpadvisor.yaml_reader import read_yaml

ODD = """\
---
# head
base_model:   "x/y"   # kept blanks
datasets:
- path: a
  type:   completion
-   path: b

nothing:
flow: {b: 1,c: 2}   # as it stands
wide: [1,
    2, 3]
fsdp_config:
    reshard_after_forward:    true  # first

    # about the next
    state_dict_type: 'FULL'
# about the rate
learning_rate: 2e-5
prose: |
  # no comment
   more
last: yes
"""


def changed(text, *pairs):
    return edited(text, [Change(key=key, value=value) for key, value in pairs])


def differing(old, new):
    """Lines that went and lines that came."""
    rows = [row for row in difflib.ndiff(old.splitlines(), new.splitlines()) if row[0] in "+-"]
    return [row[2:] for row in rows if row[0] == "-"], [row[2:] for row in rows if row[0] == "+"]


@pytest.mark.parametrize(
    ("key", "value", "gone", "came"),
    [
        ("learning_rate", 1e-5, ["learning_rate: 2e-5"], ["learning_rate: 1.0e-05"]),
        ("base_model", "z/w", ['base_model:   "x/y"   # kept blanks'], ['base_model: "z/w"     # kept blanks']),
        ("flow.c", 3, ["flow: {b: 1,c: 2}   # as it stands"], ["flow: {b: 1, c: 3}  # as it stands"]),
        (
            "fsdp_config.reshard_after_forward",
            False,
            ["    reshard_after_forward:    true  # first"],
            ["    reshard_after_forward: false    # first"],
        ),
        ("fsdp_config.offload_params", False, [], ["    offload_params: false"]),
        ("fsdp_config.reshard_after_forward", REMOVE, ["    reshard_after_forward:    true  # first"], []),
        ("wide", REMOVE, ["wide: [1,", "    2, 3]"], []),
        ("prose", REMOVE, ["prose: |", "  # no comment", "   more"], []),
        ("nothing.now", 1, [], ["  now: 1"]),
        ("max_steps", 7, [], ["max_steps: 7"]),
        ("context_parallel.backend", "ring", [], ["context_parallel:", "  backend: ring"]),
        ("never_there", REMOVE, [], []),
        ("fsdp_config.never_there", REMOVE, [], []),
        ("last", "no", ["last: yes"], ['last: "no"']),
    ],
)
def test_a_change_touches_its_own_lines_alone(key, value, gone, came):
    assert differing(ODD, changed(ODD, (key, value))) == (gone, came)


def test_a_new_key_of_a_block_stands_at_its_end_above_the_comment_of_the_next():
    lines = changed(ODD, ("fsdp_config.offload_params", False)).splitlines()
    place = lines.index("    offload_params: false")
    assert lines[place - 1] == "    state_dict_type: 'FULL'"
    assert lines[place + 1] == "# about the rate"


def test_a_block_whose_last_key_goes_goes_with_it():
    text = "a: 1\nouter:  # why\n  inner:\n    only: 2\nb: 3\n"
    assert changed(text, ("outer.inner.only", REMOVE)) == "a: 1\nb: 3\n"


def test_changes_apply_in_turn():
    text = changed("a: 1\n", ("b.c", 1), ("b.d", 2), ("b.c", REMOVE))
    assert text == "a: 1\nb:\n  d: 2\n"


def test_a_mapping_takes_the_place_of_a_value_and_the_other_way_round():
    text = "recompute:  # why\n  none: 32\nx: 1\n"
    assert changed(text, ("recompute", {"full": 32})) == "recompute:  # why\n  full: 32\nx: 1\n"
    assert yaml.safe_load(changed(text, ("recompute", False))) == {"recompute": False, "x": 1}
    assert yaml.safe_load(changed(text, ("x.y.z", 2)))["x"] == {"y": {"z": 2}}


def test_json_is_yaml_too():
    assert yaml.safe_load(changed('{"a": 1, "b": {"c": 2}}', ("b.c", 3), ("d", REMOVE))) == {"a": 1, "b": {"c": 3}}


def test_line_ends_stay_those_of_the_file():
    assert changed("a: 1\r\nb: 2\r\n", ("a", 3), ("c", 4)) == "a: 3\r\nb: 2\r\nc: 4\r\n"
    assert changed("a: 1", ("c", 4)) == "a: 1\nc: 4\n"


def test_a_key_that_an_anchor_merges_in_is_overridden_where_it_is_used():
    text = "base: &base {q: 1}\nused:\n  <<: *base\n  z: 3\n"
    new = changed(text, ("used.q", 5))
    assert differing(text, new) == ([], ["  q: 5"])


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("a: 1\na: 2\n", "a", "stands on line 1 already"),
        ("a: [1\n", "a", "not YAML"),
        ("- 1\n", "a", "holds a list"),
        ("x: &x [1]\na: [*x]\n", "a.b", "change it by hand"),
        ("x: &x [1]\na: *x\n", "x", "config, changed"),
    ],
)
def test_what_cannot_be_changed_safely_is_refused(text, key, words):
    with pytest.raises(ConfigError, match=words):
        changed(text, (key, REMOVE if key == "x" else 1))


def written(engine, accumulation):
    spec = require_gpu("h100-80g")
    gpus = tuple(Gpu(index=index, name=spec.product, memory_bytes=spec.memory_bytes) for index in range(8))
    links = tuple(tuple(None if row == column else "NV18" for column in range(8)) for row in range(8))
    node = Node(name="made", source="recorded", gpus=gpus, links=links)
    workload = Workload(
        model=find_model("llama-3.1-8b"), sequence_len=32768, engine=engine, global_batch=8 * accumulation
    )
    advice = advise(node, spec, workload)
    return config_document(advice, advice.plans[0], workload, WriteOptions(path="/tmp/x.yaml"))


FILES = [written(engine, accumulation) for engine in ENGINES for accumulation in (1, 4)]


def leaves(values, path=()):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield ".".join((*path, key))


def at(values, key):
    for part in key.split("."):
        values = values[part]
    return values


SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=80),
    st.lists(st.integers(0, 9), max_size=4),
)


@settings(deadline=None)
@given(data=st.data(), value=SCALARS)
def test_setting_one_key_of_a_written_file_changes_its_line_and_no_other(data, value):
    text = data.draw(st.sampled_from(FILES))
    key = data.draw(st.sampled_from([key for key in leaves(read_yaml(text, name="x")[0]) if key != "datasets"]))
    new = changed(text, (key, value))
    assert at(read_yaml(new, name="x")[0], key) == value
    old_lines, new_lines = text.splitlines(), new.splitlines()
    assert len(old_lines) == len(new_lines)
    names = {line.split(":")[0].strip() for line, other in zip(old_lines, new_lines, strict=True) if line != other}
    assert names <= {key.split(".")[-1]}


@settings(deadline=None)
@given(data=st.data())
def test_removing_a_key_of_a_written_file_and_setting_it_again_gives_its_value_back(data):
    text = data.draw(st.sampled_from(FILES))
    values = read_yaml(text, name="x")[0]
    key = data.draw(st.sampled_from([key for key in leaves(values) if key != "datasets"]))
    without = changed(text, (key, REMOVE))
    assert set(differing(text, without)[1]) == set()
    assert read_yaml(changed(without, (key, at(values, key))), name="x")[0] == values
