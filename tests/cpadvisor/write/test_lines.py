"""Rendered lines read back as the values they were."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from cpadvisor.write.lines import ConfigLine, render, scalar
from cpadvisor.yaml_reader import read_yaml

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12),
    st.sampled_from(["yes", "No", "on", "null", "~", "2e-5", "0x10", "2026-01-01", "a: b", "- x", "#x", "12:30", ".5"]),
)
KEYS = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True).filter(
    lambda key: key not in {"on", "off", "no", "yes", "y", "n"}
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(SCALARS, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
def test_any_value_reads_back_as_itself_in_both_readers(values):
    text = render(
        [ConfigLine(key=key, value=value, origin="plan", comment="why: # x") for key, value in values.items()]
    )
    assert read_yaml(text, name="c.yaml")[0] == values
    assert yaml.safe_load(text) == values


def test_a_small_float_is_a_number_for_yaml_1_1():
    assert scalar(2e-5) == "2.0e-05"
    assert yaml.safe_load(scalar(2e-5)) == 2e-5


def test_each_line_says_where_it_comes_from():
    lines = [
        ConfigLine(key="a", value=1, origin="plan", comment="why"),
        ConfigLine(key="datasets", value=[{"path": "x", "type": "completion"}], origin="flag"),
    ]
    assert render(lines, ["head", ""]).splitlines() == [
        "# head",
        "#",
        "",
        "a: 1                                        # plan: why",
        "datasets:                                   # flag",
        "  - path: x",
        "    type: completion",
    ]
