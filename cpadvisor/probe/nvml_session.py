"""An open NVML library, asked so that a call that fails gives None."""

from dataclasses import dataclass
from typing import Any

from cpadvisor.errors import MissingError


class NoGpuError(MissingError):
    """No driver, no GPU, or none that this process may see: nothing is broken, there is nothing to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU that NVML gave a handle for."""

    index: int
    handle: Any
    bus: str
    """PCI bus id in lower case, the name by which links refer to it."""


class Session:
    """NVML between nvmlInit and nvmlShutdown.

    A driver older than the binding lacks functions, consumer cards and virtual machines refuse many: both are
    answers of the machine, not faults of the program.
    """

    def __init__(self, library: Any) -> None:
        self._library = library

    def ask(self, function: str, *arguments: Any, **options: Any) -> Any:
        """What a function of NVML returns, None where the driver does not say."""
        try:
            return getattr(self._library, function)(*arguments, **options)
        except (self._library.NVMLError, AttributeError):
            return None

    def why(self, function: str, *arguments: Any) -> str | None:
        """The error that a call ends with, None where it succeeds."""
        try:
            getattr(self._library, function)(*arguments)
        except (self._library.NVMLError, AttributeError) as error:
            return str(error)
        return None

    def is_past_the_last(self, function: str, *arguments: Any) -> bool:
        """Whether a call is refused because its number is too large, the way NVML ends a list."""
        try:
            getattr(self._library, function)(*arguments)
        except self._library.NVMLError_InvalidArgument:
            return True
        except (self._library.NVMLError, AttributeError):
            return False
        return False

    def text(self, function: str, *arguments: Any) -> str | None:
        """A string; older bindings give bytes."""
        return as_text(self.ask(function, *arguments))

    def constant(self, name: str, default: Any) -> Any:
        """A constant of the binding, or `default` where the binding is too old to have it."""
        return getattr(self._library, name, default)

    def field(self, handle: Any, field_id: int) -> int | None:
        """An unsigned field value, None where the device does not have it."""
        values = self.ask("nvmlDeviceGetFieldValues", handle, [field_id])
        if not values or values[0].nvmlReturn != self.constant("NVML_SUCCESS", 0):
            return None
        return int(values[0].value.uiVal)

    def devices(self) -> tuple[list[Device], list[str]]:
        """The GPUs that answer, and a warning for each that does not."""
        found: list[Device] = []
        warnings: list[str] = []
        for index in range(self.ask("nvmlDeviceGetCount") or 0):
            handle = self.ask("nvmlDeviceGetHandleByIndex", index)
            if handle is None:
                why = self.why("nvmlDeviceGetHandleByIndex", index) or "no handle"
                warnings.append(f"GPU{index} does not answer ({why}) and is left out; `dmesg` may name the Xid")
                continue
            pci = self.ask("nvmlDeviceGetPciInfo", handle)
            bus = "" if pci is None else (as_text(pci.busId) or "").lower()
            found.append(Device(index=index, handle=handle, bus=bus))
        return found, warnings


def as_text(value: str | bytes | None) -> str | None:
    """A text of NVML, whichever type the binding gives."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
