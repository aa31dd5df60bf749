"""Plans as text: the method of context parallelism stands in the table, and beside it what the others would cost."""

import re

from cpadvisor.job import Request, build_job
from cpadvisor.plan.search import advise
from cpadvisor.report.plan import advice_text, plan_text


def answer(**asked):
    job = build_job(Request(node="dgx-h100", sequence_len="128k", **asked))
    return advise(job.node, job.gpu, job.workload)


def test_the_method_stands_in_the_table_and_what_it_was_weighed_against_below():
    advice = answer(model="qwen2.5-7b", lock="cp=8")
    best = advice.plans[0]
    assert best.cp_label.startswith("usp ")
    row = next(line for line in advice_text(advice, top=1).splitlines() if line.startswith("1 "))
    assert re.split(r"\s{2,}", row)[2] == best.cp_label
    (line,) = [line for line in plan_text(best).splitlines() if line.startswith("cp by")]
    assert line.startswith(f"cp by  {best.cp_label} ")
    assert "ring " in line and line.endswith("no ulysses: 28 query heads do not divide over 8 ranks")


def test_a_plan_without_a_choice_has_no_line_of_methods():
    for advice in (answer(model="llama-3.1-8b", lock="cp=8", cp_method="ring"), answer(model="tiny", lock="cp=1")):
        assert not any(line.startswith("cp by") for line in plan_text(advice.plans[0]).splitlines())
