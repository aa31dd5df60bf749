"""Everything that the checks of a node read: each question to a child of its own, with its time-out."""

from collections.abc import Callable, Mapping
from pathlib import Path

from cpadvisor.doctor.children import ask, ask_ourselves
from cpadvisor.doctor.facts import Answer, DriverFacts, HostFacts, LibraryFacts, MachineFacts
from cpadvisor.doctor.library_checks import FLASH, READERS
from cpadvisor.doctor.look import driver_from_json
from cpadvisor.errors import MissingError
from cpadvisor.launch.environment import RUN_VARIABLE
from cpadvisor.launch.interpreter import find_python
from cpadvisor.node import Node
from cpadvisor.processes import environment, identify
from cpadvisor.rundir import command_name, runs_root
from cpadvisor.threads import LooseThreads

DRIVER_S, HOST_S, INSTALLED_S, TORCH_S, IMPORT_S = 30.0, 10.0, 20.0, 90.0, 60.0
"""Time-outs. `nvidia-smi topo -m` alone may take ten seconds where the driver has to load, torch from a network disk
a minute."""

_CHILD = str(Path(__file__).with_name("libraries_child.py"))


def gather_machine(*, python: str | None, runs: Path | None, environ: Mapping[str, str]) -> MachineFacts:
    """Ask everything, side by side."""
    threads = LooseThreads()
    driver_asked = threads.submit(_ask_driver, environ)
    host_asked = threads.submit(_ask_host, runs_root(runs, environ), environ)
    libraries_asked = threads.submit(gather_libraries, python, environ=environ)
    driver, driver_answer = driver_asked.result()
    host, host_answer = host_asked.result()
    return MachineFacts(
        driver=driver,
        driver_answer=driver_answer,
        host=host,
        host_answer=host_answer,
        libraries=libraries_asked.result(),
        environ=dict(environ),
        own_pids={} if driver.node is None else _own_pids(driver.node),
    )


def gather_node(environ: Mapping[str, str]) -> tuple[Node | None, str | None]:
    """The GPUs of this machine, None and the reason where there are none or the driver does not answer."""
    driver, answer = _ask_driver(environ)
    return driver.node, answer.why or driver.broken or driver.absent


def _ask_driver(environ: Mapping[str, str]) -> tuple[DriverFacts, Answer]:
    answer = ask_ourselves("cpadvisor.doctor.look", "driver", timeout_s=DRIVER_S, environ=environ)
    return (DriverFacts() if answer.data is None else driver_from_json(answer.data)), answer


def _ask_host(root: Path, environ: Mapping[str, str]) -> tuple[HostFacts, Answer]:
    answer = ask_ourselves("cpadvisor.doctor.look", "host", str(root), timeout_s=HOST_S, environ=environ)
    if answer.data is None:
        return HostFacts(), answer
    return HostFacts(**{**answer.data, "rdma_devices": tuple(answer.data["rdma_devices"])}), answer


def gather_libraries(python: str | None, *, environ: Mapping[str, str]) -> LibraryFacts:
    """The interpreter that `launch` would take, and what it imports: torch first, then what is installed beside it."""
    try:
        chosen = find_python(python, modules=("torch",), environ=environ)
    except MissingError as error:
        return LibraryFacts(no_python=str(error))
    names = dict(FLASH.values())
    wanted = [*READERS, *names]
    found = ask([chosen, _CHILD, "installed", *wanted], timeout_s=INSTALLED_S, environ=environ)
    torch = ask([chosen, _CHILD, "torch"], timeout_s=TORCH_S, environ=environ)
    present = [module for module in wanted if module in (found.data or {}).get("modules", ())]
    questions: dict[str, Callable[[], Answer]] = {
        module: lambda module=module: ask(
            [chosen, _CHILD, "import", module, *([names[module]] if module in names else [])],
            timeout_s=IMPORT_S,
            environ=environ,
        )
        for module in (present if torch.data is not None else ())
    }
    return LibraryFacts(
        python=chosen, found=found, torch=torch, imports={module: question() for module, question in questions.items()}
    )


def _own_pids(node: Node) -> dict[int, str]:
    """Holders of GPU memory that belong to a run of this user, by the mark that each of them inherited."""
    found: dict[int, str] = {}
    for pid in {holder.pid for holder in node.holders}:
        process = identify(pid)
        run = None if process is None else environment(process).get(RUN_VARIABLE)
        if run is not None:
            found[pid] = command_name(Path(run))
    return found
