"""The method of context parallelism on the Plan screen: in its column, and beside the others under the step."""

from dataclasses import replace

from tui_support import plan

from cpadvisor.plan.advice import MethodCost
from cpadvisor.plan.layout import Layout
from cpadvisor.tui.i18n import Words
from cpadvisor.tui.screens.plan import candidate_row, step_lines

METHODS = (
    MethodCost(method="usp", ulysses=4, step_s=2.19),
    MethodCost(method="ring", step_s=2.4),
    MethodCost(method="ulysses", why="28 query heads do not divide over 8 ranks"),
)


def texts(runs):
    return "".join(text for text, _ in runs)


def test_the_column_names_the_ranks_that_exchange_heads_and_those_of_the_ring():
    usp = replace(plan(Layout(cp=8), peak_gib=40, tokens_per_s=2000.0), cp_method="usp", ulysses=4)
    cells = [texts(cell.runs) for cell in candidate_row(0, usp, Words("en"), frozenset())]
    assert "usp 4×2" in cells


def test_the_step_shows_what_each_method_would_cost_and_why_one_is_out():
    usp = replace(plan(Layout(cp=8), peak_gib=40, tokens_per_s=2000.0), cp_method="usp", ulysses=4, methods=METHODS)
    assert texts(step_lines(usp)[-1]) == (
        "cp by usp 4×2 2.19 s a step against ring 2.40 s; no ulysses: 28 query heads do not divide over 8 ranks"
    )
