"""Plans as the planner gives them, with figures that are easy to recognise."""

import pytest

from cpadvisor.catalog import find_model
from cpadvisor.plan.advice import Advice, CardAnswer, MemoryEstimate, Plan, StepEstimate
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.workload import Workload

MEMORY = MemoryEstimate(
    peak_bytes=49_507_847_372,
    low_bytes=45_000_000_000,
    high_bytes=53_000_000_000,
    limit_bytes=85_520_809_984,
    instant="loss",
    terms_bytes={"parameters": 4_015_130_624, "activations": 45_492_716_748},
)
STEP = StepEstimate(total_s=2.19, low_s=1.9, high_s=2.6, terms_s={})


@pytest.fixture
def planned():
    """Builds (advice, plan, workload) of one layout."""

    def build(
        *,
        engine="cpadvisor",
        model="llama-3.1-8b",
        tokens=32768,
        layout=None,
        method="ring",
        ulysses=1,
        recompute=None,
        nodes=1,
        accumulation=1,
        order=None,
        node="dgx-h100",
    ):
        spec = find_model(model)
        layout = layout or Layout(dp_shard=2, cp=4)
        plan = Plan(
            layout=layout,
            order=tuple(order or range(layout.world // nodes)),
            cp_method=method,
            ulysses=ulysses,
            recompute=recompute or {"full": spec.layers},
            micro_batch=1,
            accumulation=accumulation,
            memory=MEMORY,
            step=STEP,
            tokens_per_s_per_gpu=14900.123456,
            mfu=0.41,
            groups={},
        )
        workload = Workload(model=spec, sequence_len=tokens, engine=engine, nodes=nodes)
        advice = Advice(
            node=node,
            model=model,
            sequence_len=tokens,
            gpus=layout.world,
            engine=engine,
            plans=(plan,),
            rejected=(),
            trace=(),
            card=CardAnswer(layout=None, agrees=False, why=""),
        )
        return advice, plan, workload

    return build
