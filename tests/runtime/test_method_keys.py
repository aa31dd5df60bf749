from pathlib import Path
from typing import Any

import pytest

from runtime.config_reader import Reader
from runtime.method_keys import Heads, read_method

LLAMA = (32, 8)
QWEN = (28, 4)


def read(cp: int, heads: Heads = LLAMA, **own: Any) -> tuple[tuple[str, int], list[str]]:
    problems: list[str] = []
    reader = Reader(own, folder=Path(), problems=problems, warnings=[], prefix="cpadvisor.")
    return read_method(reader, cp=cp, heads=heads), problems


@pytest.mark.parametrize(
    ("cp", "own", "found"),
    [
        (4, {}, ("ring", 1)),
        (4, {"method": "allgather"}, ("allgather", 1)),
        (4, {"method": "ulysses"}, ("ulysses", 4)),
        (16, {"method": "ulysses"}, ("ulysses", 16)),
        (8, {"method": "usp"}, ("usp", 4)),
        (8, {"method": "usp", "ulysses_degree": 2}, ("usp", 2)),
        (4, {"method": "ulysses", "ulysses_degree": 4}, ("ulysses", 4)),
        (4, {"method": "ring", "ulysses_degree": 1}, ("ring", 1)),
        (1, {"method": "ulysses"}, ("none", 1)),
        (1, {"method": "none"}, ("none", 1)),
    ],
)
def test_a_method_has_its_degree(cp: int, own: dict[str, Any], found: tuple[str, int]) -> None:
    assert read(cp, **own) == (found, [])


def test_usp_without_a_degree_takes_the_most_that_the_heads_allow() -> None:
    assert read(12, QWEN, method="usp")[0] == ("usp", 4)
    assert read(12, None, method="usp")[0] == ("usp", 6)


@pytest.mark.parametrize(
    ("cp", "heads", "own", "problem"),
    [
        (
            4,
            LLAMA,
            {"method": "ring", "ulysses_degree": 2},
            "cpadvisor.ulysses_degree 2 with cpadvisor.method ring, whose degree is 1; "
            "remove it, or write cpadvisor.method: usp",
        ),
        (
            4,
            LLAMA,
            {"method": "ulysses", "ulysses_degree": 2},
            "cpadvisor.ulysses_degree 2 with cpadvisor.method ulysses, whose degree is 4; "
            "remove it, or write cpadvisor.method: usp",
        ),
        (
            2,
            LLAMA,
            {"method": "usp"},
            "cpadvisor.method usp needs a degree between 1 and context_parallel_size 2 that divides it, and there is "
            "none; use ring or ulysses",
        ),
        (
            3,
            LLAMA,
            {"method": "usp"},
            "cpadvisor.method usp needs a degree between 1 and context_parallel_size 3 that divides it, and there is "
            "none; use ring",
        ),
        (
            8,
            LLAMA,
            {"method": "usp", "ulysses_degree": 3},
            "cpadvisor.ulysses_degree 3 is no divisor of context_parallel_size 8 between 1 and 8; use 2",
        ),
        (
            8,
            LLAMA,
            {"method": "usp", "ulysses_degree": 8},
            "cpadvisor.ulysses_degree 8 is no divisor of context_parallel_size 8 between 1 and 8; use 4",
        ),
        (
            8,
            QWEN,
            {"method": "ulysses"},
            "cpadvisor.method ulysses: 28 query heads do not divide over 8 ranks; "
            "use cpadvisor.ulysses_degree 4 with cpadvisor.method usp, or cpadvisor.method ring",
        ),
        (
            16,
            QWEN,
            {"method": "usp", "ulysses_degree": 8},
            "cpadvisor.ulysses_degree 8: 28 query heads do not divide over 8 ranks; "
            "use cpadvisor.ulysses_degree 4 with cpadvisor.method usp, or cpadvisor.method ring",
        ),
        (
            9,
            LLAMA,
            {"method": "usp"},
            "cpadvisor.method usp: 32 query heads do not divide over 3 ranks; use cpadvisor.method ring",
        ),
        (
            2,
            LLAMA,
            {"method": "none"},
            "cpadvisor.method none with context_parallel_size above 1; set the method to ring, or the size to 1",
        ),
        (
            2,
            LLAMA,
            {"method": "ulyses"},
            "cpadvisor.method 'ulyses' is not one of none, ring, allgather, ulysses, usp; use ring",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(cp: int, heads: Heads, own: dict[str, Any], problem: str) -> None:
    assert read(cp, heads, **own)[1] == [problem]
