"""What the log shows does what the app did: each command parses, and asks for the same."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from tui_support import advice, h100_node, machine

from cpadvisor import catalog, cli
from cpadvisor.commands.planning import request_of
from cpadvisor.job import Request
from cpadvisor.plan.workload import Workload
from cpadvisor.tui import headless
from cpadvisor.tui.session import CPU_REQUEST, GPU_REQUEST


def parsed(command: str):
    """The arguments as the command line reads them."""
    words = shlex.split(command)
    assert words[0] == "cpadvisor"
    return cli._parser().parse_args(words[1:])


@pytest.mark.parametrize(
    "request_",
    [
        replace(GPU_REQUEST, node="dgx-a100-80g"),
        replace(CPU_REQUEST, node="cpu"),
        replace(GPU_REQUEST, node="dgx-h100", cp_method="usp"),
        Request(
            node="my machine.json",
            gpu="h100-80g",
            model="./a model",
            sequence_len="128k",
            engine="axolotl-0.21",
            nodes=2,
            nic="400g",
            gpus="0,1",
            global_batch=16,
            objective="memory",
            lock="tp=1,cp=2",
            headroom="5g",
        ),
    ],
)
def test_the_command_of_a_plan_asks_for_the_same_job(request_: Request) -> None:
    again = request_of(parsed(headless.plan(machine(h100_node()), request_)))
    assert replace(again, lock=again.lock or "") == replace(request_, lock=request_.lock or "")


def test_a_machine_that_was_not_asked_for_is_named_unless_it_is_this_one() -> None:
    node = h100_node()
    assert parsed(headless.plan(machine(node), GPU_REQUEST)).node == "dgx-h100"
    assert parsed(headless.plan(machine(replace(node, source="nvml")), GPU_REQUEST)).node is None


def test_a_pasted_topology_comes_from_standard_input_again() -> None:
    request = replace(GPU_REQUEST, topo_text="GPU0 …", gpu="h100-80g")
    args = parsed(headless.inspect(request))
    assert (args.topo, args.gpu) == ("-", "h100-80g")
    assert headless.plan(machine(h100_node()), request).count("--gpu") == 1


def test_a_plan_that_is_not_the_first_is_written_by_its_sizes() -> None:
    workload = Workload(model=catalog.find_model("llama-3.1-8b"), sequence_len=32768)
    first, second = advice(workload).plans
    there = machine(h100_node())
    args = parsed(headless.write(there, GPU_REQUEST, first, first=True, path=Path("a b.yaml")))
    assert (args.command, args.output, args.lock) == ("write", "a b.yaml", None)
    args = parsed(headless.write(there, GPU_REQUEST, second, first=False, path=Path("c.yaml")))
    assert args.lock == "dp_replicate=1,dp_shard=8,cp=1,tp=1"
