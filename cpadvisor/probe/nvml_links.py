"""Links between GPUs through NVML, by the method of DCGM (dcgmlib/src/DcgmTopology.cpp).

Two GPUs with links to an NVSwitch reach each other through it, with as many
links as the poorer one has up. Without a switch the links whose far end is the
other GPU's bus id are counted. What is left goes over PCIe: the common ancestor.
"""

from cpadvisor.node import is_nvlink
from cpadvisor.probe.nvml_session import Device, Session, as_text

P2P_READ, P2P_NVLINK = 0, 2
"""Literals, for the binding's NVML_P2P_CAPS_INDEX_READ is the tuple (0,), which ctypes refuses."""

P2P_OK = 0
P2P_CODES = {1: "CNS", 2: "GNS", 3: "TNS", 4: "DR", 5: "NS", 6: "U"}
"""As `nvidia-smi topo -p2p` prints them: chipset, GPU, topology not supported, disabled by registry, and so on."""

_ANCESTORS = {0: "PIX", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
"""nvmlGpuTopologyLevel_t; 0 is two GPUs on one board, which sit behind one switch."""

_REMOTE_SWITCH = 2
_SWITCH_LINKS_FIELD = 147

Links = tuple[tuple[str | None, ...], ...]


def read_links(session: Session, devices: list[Device]) -> tuple[Links, tuple[str, ...]]:
    """One code a pair in both directions, None where NVML does not say; and warnings on faults of the fabric."""
    ports = [_Ports(session, device) for device in devices]
    matrix: list[list[str | None]] = [[None] * len(devices) for _ in devices]
    broken: list[str] = []
    staged: dict[str, list[str]] = {}
    for row, device in enumerate(devices):
        for column in range(row):
            peer = devices[column]
            code = _nvlink(ports[row], ports[column])
            if code is not None and _refused(session, peer, device, P2P_NVLINK):
                broken.append(f"GPU{peer.index}–GPU{device.index}")
                code = None
            if code is None:
                level = session.ask("nvmlDeviceGetTopologyCommonAncestor", peer.handle, device.handle)
                code = None if level is None else _ANCESTORS.get(level)
            if not is_nvlink(code) and (status := _refused(session, peer, device, P2P_READ)):
                staged.setdefault(status, []).append(f"GPU{peer.index}–GPU{device.index}")
            matrix[row][column] = matrix[column][row] = code
    return tuple(map(tuple, matrix)), tuple(_warnings(broken, staged, len(devices)))


class _Ports:
    """How many NVLinks of a GPU are up, and where they end."""

    def __init__(self, session: Session, device: Device) -> None:
        self.bus = device.bus
        self.peers: dict[str, int] = {}
        switched = 0
        for link in range(session.constant("NVML_NVLINK_MAX_LINKS", 18)):
            if session.ask("nvmlDeviceGetNvLinkState", device.handle, link) != 1:
                if session.is_past_the_last("nvmlDeviceGetNvLinkState", device.handle, link):
                    break
                continue
            remote = session.ask("nvmlDeviceGetNvLinkRemotePciInfo", device.handle, link)
            bus = "" if remote is None else (as_text(remote.busId) or "").lower()
            self.peers[bus] = self.peers.get(bus, 0) + 1
            # A virtual machine hides the switch: its bus id reads ffffffff:ff:ff.0, its type still says switch.
            switched += session.ask("nvmlDeviceGetNvLinkRemoteDeviceType", device.handle, link) == _REMOTE_SWITCH
        self.switched = session.field(device.handle, _SWITCH_LINKS_FIELD) or switched


def _nvlink(first: _Ports, second: _Ports) -> str | None:
    if first.switched and second.switched:
        return f"NV{min(first.switched, second.switched)}"
    direct = first.peers.get(second.bus) if second.bus else None
    return f"NV{direct}" if direct else None


def _refused(session: Session, first: Device, second: Device, capability: int) -> str | None:
    """The code by which the driver refuses a kind of peer access; None where it grants it or does not say."""
    status = session.ask("nvmlDeviceGetP2PStatus", first.handle, second.handle, capability)
    return None if status is None or status == P2P_OK else P2P_CODES.get(status, "U")


def _warnings(broken: list[str], staged: dict[str, list[str]], count: int) -> list[str]:
    found: list[str] = []
    if broken:
        found.append(
            f"NVLinks are up but the driver refuses NVLink peer access on {', '.join(broken)}: check the fabric "
            "manager; these pairs are taken as PCIe"
        )
    for status, pairs in staged.items():
        where = "any pair" if len(pairs) == count * (count - 1) // 2 else ", ".join(pairs)
        found.append(f"no peer-to-peer access on {where} ({status}): NCCL copies through the host's memory there")
    return found
