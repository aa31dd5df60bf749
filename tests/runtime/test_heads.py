from pathlib import Path

import pytest

from runtime.heads import check_degree, exchanges, read_heads, usp_degrees


@pytest.mark.parametrize(
    ("heads", "kv_heads", "degrees"),
    [
        (32, 8, {1, 2, 4, 8, 16, 32}),
        (28, 4, {1, 2, 4, 28}),
        (12, 3, {1, 3, 6, 12}),
        (40, 40, {1, 2, 4, 5, 8, 10, 20, 40}),
        (8, 1, {1, 2, 4, 8}),
    ],
)
def test_a_degree_divides_the_queries_and_shares_out_or_repeats_the_keys(
    heads: int, kv_heads: int, degrees: set[int]
) -> None:
    assert {degree for degree in range(1, 65) if exchanges(heads, kv_heads, degree)} == degrees


def test_what_does_not_divide_is_named() -> None:
    assert check_degree(32, 8, 16) is None
    assert check_degree(28, 4, 8) == "28 query heads do not divide over 8 ranks"
    assert check_degree(12, 3, 2) == "3 K/V heads neither divide over 2 ranks nor repeat evenly on them"


def test_the_degrees_of_usp_leave_a_ring_and_fit_the_heads() -> None:
    assert usp_degrees(8, (32, 8)) == (2, 4)
    assert usp_degrees(12, (28, 4)) == (2, 4)
    assert usp_degrees(12, None) == (2, 3, 4, 6)
    assert usp_degrees(3, (32, 8)) == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"num_attention_heads": 32, "num_key_value_heads": 8}', (32, 8)),
        ('{"num_attention_heads": 32}', (32, 32)),
        ('{"num_attention_heads": "32"}', None),
        ("[]", None),
        ("{", None),
    ],
)
def test_heads_are_read_where_they_stand(tmp_path: Path, text: str, found: tuple[int, int] | None) -> None:
    (tmp_path / "config.json").write_text(text)
    assert read_heads(tmp_path) == found
    assert read_heads(tmp_path / "nowhere") is None
