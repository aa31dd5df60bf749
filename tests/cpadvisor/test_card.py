"""The card as data: every row is there, in two languages, and what carries each one really exists and names it."""

import argparse
import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from cpadvisor import cli
from cpadvisor.card import LANGUAGES, VERDICTS, find_rows, kv_owner, load_groups, load_rows, ring_table
from cpadvisor.errors import UsageError

PACKAGE = Path(cli.__file__).parent

IDS = (
    *("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8"),
    *("K1", "K2", "K3", "K4", "K5"),
    *("F1", "F2", "F3", "F4", "F5", "F6", "F7"),
    *("D1", "D2", "D3", "D4", "D5"),
    *("L1", "L2", "L3", "L4"),
    *("T1", "T2", "T3", "T4", "T5", "T6"),
    *("P1", "P2", "V1"),
)

SOURCES = {
    "check": ("check/*.py", "yaml_reader.py"),
    "plan": ("plan/*.py",),
    "trace": ("plan/tree.py",),
    "doctor": ("doctor/*.py",),
}
"""Where the code of a carrier stands, by its kind."""

STAGES = {
    "inspect": ("fabric.py", "probe/*.py", "report/node.py", "commands/machine.py"),
    "plan": ("plan/*.py", "report/plan.py"),
    "write": ("write/*.py",),
    "launch": ("launch/*.py",),
    "watch": ("watch/*.py",),
    "parity": ("parity/*.py", "report/parity.py", "commands/parity.py"),
    "card": ("report/card.py", "report/card_figures.py"),
    "doctor": ("doctor/*.py",),
}
"""The stages that a command calls."""


def test_every_row_of_the_card_is_there_once_and_in_its_order():
    assert tuple(load_rows()) == IDS


@pytest.mark.parametrize("row", load_rows().values(), ids=lambda row: row.id)
def test_every_text_is_there_in_both_languages(row):
    texts = [row.title, row.card, row.ours, row.source]
    if row.columns is not None:
        texts += [row.columns.caption, *row.columns.heads.values()]
    for text in texts:
        assert set(text) == set(LANGUAGES)
        assert all(text.values())
    assert re.search("[\u4e00-\u9fff]", row.ours["zh"])
    assert not re.search("[\u3000-\uffef]", row.title["en"] + row.card["en"] + row.ours["en"] + row.source["en"])
    assert row.verdict in VERDICTS
    assert row.group in load_groups()


def test_a_folded_line_of_chinese_leaves_no_blank():
    for row in load_rows().values():
        for text in (row.card["zh"], row.ours["zh"], row.source["zh"]):
            assert not re.search("[\u4e00-\u9fff，。；：、（）] [\u4e00-\u9fff，。；：、（）]", text), (row.id, text)


def test_the_verse_has_twelve_lines_in_three_stanzas():
    verse = load_rows()["V1"].verse
    assert verse is not None
    assert {language: [len(stanza) for stanza in verse[language]] for language in LANGUAGES} == {
        "en": [4, 4, 4],
        "zh": [4, 4, 4],
    }
    # What each line of the card's verse is about, in its order.
    about = ["长", "存", "Flash", "一", "整除", "NVLink", "TP", "CP", "省", "通信", "8K", "长"]
    assert all(word in line for word, line in zip(about, sum(verse["zh"], ()), strict=True))


def test_an_id_a_letter_and_nothing_choose_rows():
    assert [row.id for row in find_rows(["f3", "C1"])] == ["C1", "F3"]
    assert [row.id for row in find_rows(["D", "D1"])] == ["D1", "D2", "D3", "D4", "D5"]
    assert [row.id for row in find_rows([])] == list(IDS)


@pytest.mark.parametrize(("name", "nearest"), [("F9", "F7"), ("k0", "K5"), ("7", "F7")])
def test_an_unknown_row_names_the_nearest(name, nearest):
    with pytest.raises(UsageError, match=f"'{name}' is no row of the card; the nearest is {nearest}; .* F \\(Formulas"):
        find_rows(["C1", name])


def test_p2_rank_r_holds_the_kv_of_rank_r_minus_s():
    assert kv_owner(rank=1, step=2, size=4) == 3
    assert ring_table(4) == ((0, 1, 2, 3), (3, 0, 1, 2), (2, 3, 0, 1), (1, 2, 3, 0))


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_after_as_many_rounds_as_ranks_each_has_seen_all(size):
    assert all(sorted(column) == list(range(size)) for column in zip(*ring_table(size), strict=True))


# What carries a row exists.


def calls(pattern: str) -> Iterator[ast.Call]:
    """Every call in the files of the package that a glob names."""
    for path in sorted(PACKAGE.glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield node


def name_of(call: ast.Call) -> str:
    """`find` of `config.find(…)`, `Finding` of `Finding(…)`."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def texts(node: ast.AST | None) -> Iterator[str]:
    """The texts that an argument may be: itself, or either branch of a condition."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    if isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)


def emitted(pattern: str, makers: dict[str, int], *, keyword: str = "rule") -> set[str]:
    """Rules that calls of `makers` name: at the position given, or by keyword."""
    found: set[str] = set()
    for call in calls(pattern):
        if name_of(call) in makers:
            place = makers[name_of(call)]
            at_place = call.args[place] if len(call.args) > place else None
            for node in (at_place, *(word.value for word in call.keywords if word.arg == keyword)):
                found.update(texts(node))
    return found


def assigned(pattern: str, name: str) -> set[str]:
    """Texts that a file assigns to a variable."""
    return {
        text
        for path in PACKAGE.glob(pattern)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == name for target in node.targets)
        for text in texts(node.value)
    }


@cache
def existing(kind: str) -> frozenset[str]:
    """All names of one kind of carrier."""
    if kind == "check":
        return frozenset(emitted("check/*.py", {"find": 0, "Finding": 9}) | assigned("check/*.py", "rule"))
    if kind == "plan":
        return frozenset(emitted("plan/*.py", {"_rejection": 1, "Rejection": 9}))
    if kind == "trace":
        return frozenset(emitted("plan/tree.py", {"_step": 0, "TraceStep": 9}))
    if kind == "doctor":
        return frozenset(emitted("doctor/*.py", {"Diagnosis": 9, "_ok": 0, "_Words": 9}))
    if kind == "screen":
        from cpadvisor.tui.app import CpadvisorApp

        return frozenset(CpadvisorApp.MODES)
    assert kind == "command", kind
    action = next(action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction))
    return frozenset(action.choices)


@pytest.mark.parametrize("row", load_rows().values(), ids=lambda row: row.id)
def test_what_carries_a_row_exists(row):
    assert row.carried_by
    for carrier in row.carried_by:
        kind, _, name = carrier.partition(" ")
        assert name in existing(kind), f"{row.id} names {carrier}; known are {sorted(existing(kind))}"


def code_of(carrier: str) -> Iterator[Path]:
    """The files in which a carrier is written."""
    kind, _, name = carrier.partition(" ")
    own = {"command": (f"commands/{name}.py", *STAGES.get(name, ())), "screen": (f"tui/screens/{name}.py",)}
    for pattern in own.get(kind) or SOURCES[kind]:
        yield from PACKAGE.glob(pattern)


@pytest.mark.parametrize("row", load_rows().values(), ids=lambda row: row.id)
def test_something_that_carries_a_row_names_it_in_its_own_code(row):
    files = {path for carrier in row.carried_by for path in code_of(carrier)}
    named = [path.name for path in files if re.search(rf"\b{row.id}\b", path.read_text(encoding="utf-8"))]
    assert named, f"none of {sorted(path.name for path in files)} names {row.id}"


def test_a_carrier_that_does_not_exist_is_noticed():
    assert "F3" in existing("check") and "F33" not in existing("check")
    assert "trainer-tp" in existing("plan") and "trainer" not in existing("plan")
    assert {"T1", "F5", "decision"} <= existing("trace")
    assert "shm" in existing("doctor") and "D1" not in existing("doctor")
    assert "parity" in existing("command") and "trial" not in existing("command")
    assert "runs" in existing("screen") and "card" not in existing("screen")
