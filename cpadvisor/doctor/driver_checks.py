"""The driver and its GPUs: does it answer, do they all, and is their memory sound."""

from collections.abc import Iterator

from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.facts import DriverFacts, MachineFacts
from cpadvisor.fabric import fabric_warnings
from cpadvisor.node import Node
from cpadvisor.units import DASH

_XID = "dmesg | grep -iE 'xid|nvrm' | tail"


def driver_checks(facts: MachineFacts) -> Iterator[Diagnosis]:
    """All of them; on a machine without a GPU the one line that says so."""
    yield _driver(facts)
    driver = facts.driver
    yield from _lost(driver)
    yield from _sliced(driver)
    yield from _memory_errors(driver)
    yield from _persistence(driver)
    if driver.node is not None:
        yield from _rest(driver, driver.node)


def _driver(facts: MachineFacts) -> Diagnosis:
    driver, answer = facts.driver, facts.driver_answer
    if answer.why is not None:
        return Diagnosis(
            rule="driver",
            severity="error",
            title="the NVIDIA driver does not answer",
            evidence=f"NVML and `nvidia-smi topo -m`, asked in a child with {answer.given_s:g} s: {answer.why}",
            effect="every training hangs where this did",
            mends=(
                Mend(text="look for what the driver said last; a lost GPU needs a reset or a reboot", command=_XID),
            ),
        )
    if driver.broken is not None:
        return Diagnosis(
            rule="driver",
            severity="error",
            title="the GPUs of this machine cannot be used",
            evidence=driver.broken,
            effect="nothing trains on a GPU here",
            mends=(Mend(text="see what the driver itself says", command="nvidia-smi"),),
        )
    if driver.node is None:
        return Diagnosis(
            rule="driver",
            severity="note",
            title="no GPU here",
            evidence=f"{driver.absent or 'no NVIDIA driver'}; checks of GPUs are left out",
            effect="planning works for recorded machines (--node), training on CPU processes",
        )
    names = ", ".join(sorted({gpu.name or DASH for gpu in driver.node.gpus}))
    count = len(driver.node.gpus)
    return Diagnosis(
        rule="driver",
        severity="ok",
        title=f"driver {driver.driver or DASH}, {count} GPU{'s' if count > 1 else ''}",
        evidence=f"{names}; NVML {driver.nvml or DASH}, CUDA up to {driver.cuda or DASH}; "
        f"answered in {answer.took_s:.1f} s of {answer.given_s:g} s",
    )


def _lost(driver: DriverFacts) -> Iterator[Diagnosis]:
    if driver.lost:
        yield Diagnosis(
            rule="gpu-lost",
            severity="error",
            title=f"{len(driver.lost)} GPU{'s do' if len(driver.lost) > 1 else ' does'} not answer",
            evidence="; ".join(driver.lost),
            effect="a run that takes all GPUs does not start; a lost GPU comes back by a reset or a reboot",
            mends=(Mend(text="look for its Xid", command=_XID),),
        )


def _sliced(driver: DriverFacts) -> Iterator[Diagnosis]:
    sliced = [gpu.index for gpu in driver.gpus if gpu.mig]
    if sliced:
        names = ", ".join(f"GPU{index}" for index in sliced)
        yield Diagnosis(
            rule="mig",
            severity="warning",
            title=f"{names} in MIG mode",
            evidence=f"{len(sliced)} of {len(driver.gpus)} GPUs are cut into slices",
            effect="slices have no peer access, so they are left out of every plan",
            mends=(
                Mend(text="make it whole (ends what runs on it)", command=f"sudo nvidia-smi -i {sliced[0]} -mig 0"),
            ),
        )


def _memory_errors(driver: DriverFacts) -> Iterator[Diagnosis]:
    known = [gpu for gpu in driver.gpus if gpu.uncorrected_errors is not None or gpu.remap_failed is not None]
    if not known:
        return
    dead = [gpu for gpu in known if gpu.remap_failed]
    bad = [gpu for gpu in known if gpu.uncorrected_errors]
    if not dead and not bad:
        evidence = f"0 uncorrected ECC errors since the driver was loaded; GPUs asked: {len(known)}"
        yield Diagnosis(rule="ecc", severity="ok", title="memory of the GPUs is sound", evidence=evidence)
        return
    seen = "; ".join(
        f"GPU{gpu.index}: {gpu.uncorrected_errors or 0} uncorrected errors"
        + (", a row could not be remapped" if gpu.remap_failed else "")
        for gpu in known
        if gpu in dead or gpu in bad
    )
    first = (dead or bad)[0].index
    yield Diagnosis(
        rule="ecc",
        severity="error" if dead else "warning",
        title="a GPU's memory had errors that ECC could not correct",
        evidence=f"{seen}; the limit is 0",
        effect="such an error ends the process that meets it; a row that cannot be remapped comes back",
        mends=(
            Mend(
                text="reset the GPU, then test or replace it", command=f"nvidia-smi -q -d ECC,ROW_REMAPPER -i {first}"
            ),
        ),
    )


def _persistence(driver: DriverFacts) -> Iterator[Diagnosis]:
    off = [gpu.index for gpu in driver.gpus if gpu.persistence is False]
    if off:
        yield Diagnosis(
            rule="persistence",
            severity="note",
            title="persistence mode is off",
            evidence=f"on GPU {', '.join(map(str, off))}",
            effect="the driver unloads between runs, and each start waits seconds for it",
            mends=(Mend(text="keep the driver loaded", command="sudo nvidia-smi -pm 1"),),
        )


def _rest(driver: DriverFacts, node: Node) -> Iterator[Diagnosis]:
    """What the probe says of the node beyond what a check of its own tells."""
    told = (*driver.lost, *fabric_warnings(node))
    rest = [one for one in node.warnings if one not in told and not any(part in one for part in _TOLD_PARTS)]
    for number, warning in enumerate(rest, start=1):
        yield Diagnosis(
            rule="node" if number == 1 else f"node-{number}",
            severity="warning",
            title="what the look at the GPUs came upon",
            evidence=warning,
            mends=(Mend(text="see the whole machine", command="cpadvisor inspect"),),
        )


_TOLD_PARTS = ("in MIG mode", "no peer-to-peer access on")
"""In warnings of the probe that `mig` and `p2p` tell in full."""
