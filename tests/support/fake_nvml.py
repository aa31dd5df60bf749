# ruff: noqa: N801, N802, N815, N818 - the names are those of the binding
"""A small NVML: the functions that the probe asks, answering for a machine made of plain values."""

from types import SimpleNamespace

GIB = 1024**3


class NVMLError(Exception):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    pass


class NVMLError_InvalidArgument(NVMLError):
    pass


class FakeNvml:
    """GPUs as dictionaries: name, total, used, switch (links to NVSwitch), peers {index: links}, what they refuse."""

    NVML_SUCCESS = 0
    NVML_NVLINK_MAX_LINKS = 36
    NVML_DEVICE_MIG_ENABLE = 1
    nvmlMemory_v2 = 2
    NVMLError = NVMLError
    NVMLError_LibraryNotFound = NVMLError_LibraryNotFound
    NVMLError_InvalidArgument = NVMLError_InvalidArgument

    def __init__(self, gpus, *, ancestor=lambda a, b: 50, p2p=lambda a, b, kind: 0, links=18, init_error=None):
        self.gpus = gpus
        self.ancestor = ancestor
        self.p2p = p2p
        self.links = links
        self.init_error = init_error
        self.open = self.opened = False

    def nvmlInit(self):
        if self.init_error is not None:
            raise self.init_error
        self.open = self.opened = True

    def nvmlShutdown(self):
        self.open = False

    def nvmlDeviceGetCount(self):
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index):
        if self.gpus[index].get("lost"):
            raise NVMLError("GPU is lost")
        return index

    def nvmlDeviceGetPciInfo(self, handle):
        return SimpleNamespace(busId=self._bus(handle).encode())

    def nvmlDeviceGetName(self, handle):
        return self.gpus[handle]["name"]

    def nvmlDeviceGetUUID(self, handle):
        return f"GPU-{handle}a7e2c14-0000".encode()

    def nvmlDeviceGetMemoryInfo(self, handle, version=None):
        if version is not None and self.gpus[handle].get("old_driver"):
            raise NVMLError("Function Not Found")
        return SimpleNamespace(total=self.gpus[handle].get("total", 80 * GIB), used=self.gpus[handle].get("used", 0))

    def nvmlDeviceGetCpuAffinity(self, handle, words):
        first = 0xFFFF if handle < 4 else 0xFFFF0000
        return [first, first, *[0] * (words - 2)]

    def nvmlDeviceGetMemoryAffinity(self, handle, words, scope):
        return [1 if handle < 4 else 2, *[0] * (words - 1)]

    def nvmlDeviceGetMigMode(self, handle):
        if "mig" not in self.gpus[handle]:
            raise NVMLError("Not Supported")
        return [int(self.gpus[handle]["mig"]), 0]

    def nvmlDeviceGetFieldValues(self, handle, fields):
        assert fields == [147], "NVML_FI_DEV_NVSWITCH_CONNECTED_LINK_COUNT"
        count = self.gpus[handle].get("switch")
        hidden = count is None or self.gpus[handle].get("no_field")
        return [SimpleNamespace(nvmlReturn=3 if hidden else 0, value=SimpleNamespace(uiVal=0 if hidden else count))]

    def nvmlDeviceGetNvLinkState(self, handle, link):
        if link >= self.links:
            raise NVMLError_InvalidArgument("Invalid Argument")
        if self._ends(handle) is None:
            raise NVMLError("Not Supported")
        return int(link < len(self._ends(handle)))

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle, link):
        end = self._ends(handle)[link]
        return SimpleNamespace(busId="FFFFFFFF:FF:FF.0" if end is None else self._bus(end).upper())

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, handle, link):
        return 2 if self._ends(handle)[link] is None else 0

    def nvmlDeviceGetTopologyCommonAncestor(self, first, second):
        level = self.ancestor(*sorted((first, second)))
        if level is None:
            raise NVMLError("Not Supported")
        return level

    def nvmlDeviceGetP2PStatus(self, first, second, kind):
        if not isinstance(kind, int):
            raise TypeError("ctypes refuses the tuple (0,)")
        status = self.p2p(*sorted((first, second)), kind)
        if status is None:
            raise NVMLError("Not Supported")
        return status

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.gpus[handle].get("holds", ())]

    def _bus(self, index):
        return f"00000000:{16 + index:02x}:00.0"

    def _ends(self, handle):
        """The far end of each link that is up, None for a switch; None where the product has no NVLink."""
        gpu = self.gpus[handle]
        if "switch" in gpu:
            return [None] * gpu["switch"]
        if "peers" in gpu:
            return [peer for peer, count in gpu["peers"].items() for _ in range(count)]
        return None


class FakeWitness:
    def __init__(self, answer):
        self.answer = answer
        self.closed = False

    def node(self):
        return self.answer

    def close(self):
        self.closed = True
