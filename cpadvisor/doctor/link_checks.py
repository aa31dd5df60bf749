"""The links between the GPUs: NVLink or PCIe, peer access, and what may redirect it. Card rows K5, T3, L2, D2."""

from collections.abc import Iterator, Mapping
from itertools import combinations

from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.facts import DriverFacts, MachineFacts
from cpadvisor.fabric import best_ring, fabric_warnings, islands
from cpadvisor.node import Node, is_nvlink
from cpadvisor.units import DASH

LINK_ROWS = ("K5", "T3", "L2", "D2")
P2P_ROWS = ("K5", "D2")

_P2P_MEANING = {
    "CNS": "the chipset does not support it",
    "GNS": "the GPU does not support it",
    "TNS": "the topology does not support it",
    "DR": "it is switched off in the driver's registry",
    "NS": "it is not supported",
}
"""As `nvidia-smi topo -p2p` explains its codes."""


def link_checks(facts: MachineFacts) -> Iterator[Diagnosis]:
    """All of them; none below two GPUs."""
    node = facts.driver.node
    if node is not None and len(node.gpus) > 1:
        yield from _links(node)
        yield _peer_access(facts.driver, node)
        yield from _iommu(facts, node)


def _links(node: Node) -> Iterator[Diagnosis]:
    found = fabric_warnings(node)
    for number, warning in enumerate(found, start=1):
        yield Diagnosis(
            rule="nvlink" if number == 1 else f"nvlink-{number}",
            severity="warning",
            title="links between the GPUs are not what they could be",
            evidence=warning,
            effect="a ring runs at the pace of its slowest hop",
            mends=(Mend(text="see the matrix, the islands and the best ring", command="cpadvisor inspect"),),
            card=LINK_ROWS,
        )
    ring = best_ring(node)
    if not found and ring is not None:
        groups = islands(node)
        title = f"NVLink joins all {len(node.gpus)} GPUs" if len(groups) == 1 else f"{len(groups)} NVLink islands"
        yield Diagnosis(
            rule="nvlink",
            severity="ok",
            title=title,
            evidence=f"best ring {','.join(map(str, ring.order))}, slowest hop {ring.worst or DASH}",
            card=LINK_ROWS,
        )


def _peer_access(driver: DriverFacts, node: Node) -> Diagnosis:
    pairs = [f"{first}-{second}" for first, second in combinations(sorted(node.indices), 2)]
    said = {pair: driver.peer_access[pair] for pair in pairs if pair in driver.peer_access}
    refused = {pair: code for pair, code in said.items() if code != "OK"}
    if not said:
        return _peer_access_unknown(len(pairs))
    if not refused:
        evidence = f"{len(said)} of {len(pairs)} pairs may read each other's memory (nvmlDeviceGetP2PStatus)"
        rest = "" if len(said) == len(pairs) else "; the driver says nothing of the others"
        return Diagnosis(rule="p2p", severity="ok", title="peer access works", evidence=evidence + rest, card=P2P_ROWS)
    return _peer_access_refused(refused, len(pairs))


def _peer_access_unknown(pairs: int) -> Diagnosis:
    return Diagnosis(
        rule="p2p",
        severity="note",
        title="peer access is not known",
        evidence=f"the driver says of none of {pairs} pairs whether they may read each other's memory "
        "(nvmlDeviceGetP2PStatus)",
        mends=(Mend(text="see what nvidia-smi says", command="nvidia-smi topo -p2p r"),),
        card=P2P_ROWS,
    )


def _peer_access_refused(refused: Mapping[str, str], pairs: int) -> Diagnosis:
    seen = ", ".join(f"GPU{pair.replace('-', '–GPU')} {code}" for pair, code in refused.items())
    code = next(iter(refused.values()))
    return Diagnosis(
        rule="p2p",
        severity="warning",
        title=f"no peer access on {len(refused)} of {pairs} pairs",
        evidence=f"{seen}: {_P2P_MEANING.get(code, 'the driver does not say why')}",
        effect="NCCL copies through the host's memory there, at about 0.4 of the PCIe rate, or hangs on some drivers",
        mends=(
            Mend(
                text="keep the cp group to pairs that may; `--gpus` leaves the others out",
                command="nvidia-smi topo -p2p r",
            ),
            Mend(
                text="where a run hangs at its first exchange, take the host's memory",
                command="export NCCL_P2P_DISABLE=1",
            ),
        ),
        card=P2P_ROWS,
    )


def _iommu(facts: MachineFacts, node: Node) -> Iterator[Diagnosis]:
    """An IOMMU or ACS sends peer traffic through the root complex (NCCL user guide, troubleshooting, ACS)."""
    host = facts.host
    over_pcie = any(not is_nvlink(code) for row in node.links for code in row if code is not None)
    if host.iommu and not host.virtual and over_pcie:
        yield Diagnosis(
            rule="iommu",
            severity="note",
            title="an IOMMU is on, and GPUs talk over PCIe",
            evidence="/sys/class/iommu is not empty, and a pair of GPUs has no NVLink",
            effect="peer traffic may go through the root complex: slow, or hanging where ACS redirects it",
            mends=(
                Mend(text="see whether ACS is on (SrcValid+)", command="sudo lspci -vvv | grep -i acsctl"),
                Mend(text="switch the IOMMU to pass-through: boot with iommu=pt"),
            ),
            card=("K5", "D2"),
        )
