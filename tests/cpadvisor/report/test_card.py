"""Rows of the card as text and JSON, at the width of a terminal and in both languages."""

import json

import pytest

from cpadvisor.card import find_rows, load_rows
from cpadvisor.report.card import card_json, card_text, config_findings, figure_cell
from cpadvisor.report.table import cell_width


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [80, 100])
def test_no_line_is_wider_than_the_terminal(language, width):
    text = card_text(find_rows([]), language=language, width=width)
    assert max(cell_width(line) for line in text.splitlines()) <= width


def test_a_row_shows_the_card_ours_the_source_and_what_carries_it():
    text = card_text(find_rows(["F3"]), language="en", width=80)
    assert "F3  The length must divide" in text
    assert text.splitlines()[3].endswith("refined")
    for label in ("\n  card  ", "\n  ours  ", "\n  source  ", "\n  carried by  "):
        assert label in text
    assert "check F3; plan F3" in text
    assert "10,000   3  10,002   3,334       9,996      10,002" in text


def test_chinese_rows_have_chinese_labels_heads_and_verdicts():
    text = card_text(find_rows(["F3"]), language="zh", width=80)
    for word in ("公式与表格", "长度要能整除", "有补充", "速查卡", "本工具", "依据", "由谁落实"):
        assert word in text


def test_the_verse_is_printed_with_its_stanzas_apart():
    lines = card_text(find_rows(["V1"]), language="zh", width=80).splitlines()
    first = next(place for place, line in enumerate(lines) if line.strip() == "序列一长用 CP，")
    assert [bool(line.strip()) for line in lines[first:]] == [True] * 4 + [False] + [True] * 4 + [False] + [True] * 4


def test_the_card_s_configs_are_checked_when_they_are_shown():
    rows = load_rows()
    rules = {id_: [finding.rule for finding in config_findings(rows[id_])] for id_ in ("C1", "C2", "C3", "C5", "C6")}
    assert {"key-missing", "dp-shard-explicit"} <= set(rules["C1"])
    assert {"key-missing", "tp-cp", "no-sync"} <= set(rules["C2"])
    assert rules["C3"] == ["C3"]
    assert "tp-cp" in rules["C5"]
    assert [finding.rule for finding in config_findings(rows["C6"]) if finding.severity == "error"] == []
    text = card_text([rows["C3"]], language="en", width=80)
    assert "error C3: C3.yaml:5: key 'dp_shard_size' on line 5 stands on line 3" in text


def test_json_holds_both_languages_and_the_figures_by_unit():
    data = json.loads(json.dumps(card_json(find_rows(["C3", "F4", "V1"])), allow_nan=False))
    assert data["schema"] == 1
    doubled, saving, verse = data["rows"]
    assert [row["id"] for row in data["rows"]] == ["C3", "F4", "V1"]
    assert set(saving["ours"]) == set(saving["title"]) == set(saving["group"]) == {"en", "zh"}
    assert saving["figures"][1]["card_share"] == 0.5
    assert isinstance(saving["figures"][1]["peak_bytes"], int)
    assert doubled["findings"][0]["rule"] == "C3"
    assert doubled["figures"] is None and saving["findings"] is None
    assert [len(stanza) for stanza in verse["verse"]["zh"]] == [4, 4, 4]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("tokens", 32768, "32K"),
        ("above_tokens", 10002, "10,002"),
        ("above_tokens", None, "–"),
        ("card_share", 0.875, "87.5 %"),
        ("ring_share", 0.0064, "0.6 %"),
        ("peak_share", 0.23, "23 %"),
        ("hop_bytes", 2**26, "64.0 MiB"),
        ("hop_bytes_per_s", 240e9, "240 GB/s"),
        ("times_slower", 25.59, "25.6×"),
        ("card_gb", 35, "35 GB"),
        ("tokens_per_s_per_gpu", 3534.99, "3,535"),
        ("node", "dgx-h100", "dgx-h100"),
        ("gpu_0", 0, "0"),
    ],
)
def test_a_figure_is_written_by_the_unit_in_its_key(key, value, text):
    assert figure_cell(key, value) == text
