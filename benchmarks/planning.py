"""How long the whole search takes beside loading the tables that it reads."""

import time

from benchmarks.row import Row, paired
from cpadvisor import catalog
from cpadvisor.job import Job, Request, build_job
from cpadvisor.plan.search import advise


def rows() -> list[Row]:
    """The search for 8 GPUs of one node, and for 1,024 GPUs of 128 nodes beside it."""
    small = build_job(Request(node="dgx-h100", model="llama-3.1-8b", sequence_len="128k"))
    large = build_job(Request(node="dgx-h100", model="llama-3.1-405b", sequence_len="128k", nodes=128, nic="400g"))
    return [
        paired(
            "search of 1,024 GPUs / of 8 GPUs",
            lambda: _seconds(large),
            lambda: _seconds(small),
            pairs=5,
            note=f"{len(catalog.load_models())} models known",
        )
    ]


def _seconds(job: Job) -> float:
    start = time.perf_counter()
    advise(job.node, job.gpu, job.workload)
    return time.perf_counter() - start
