"""Which GPUs CUDA_VISIBLE_DEVICES leaves, read as the CUDA driver reads it.

A comma-separated list of indices or UUIDs (a unique beginning will do); the
first entry that names no GPU ends the list.
"""

from cpadvisor.errors import MissingError
from cpadvisor.node import Gpu
from cpadvisor.probe.nvml_session import NoGpuError


def visible_indices(value: str, gpus: tuple[Gpu, ...]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Indices in rising order, and warnings on what is hidden or unknown.

    Raises NoGpuError for an empty list or -1, by which people ask for the CPU, and MissingError for a list that
    leaves nothing by mistake.
    """
    if value.strip() in ("", "-1"):
        raise NoGpuError(f"CUDA_VISIBLE_DEVICES={value or '(empty)'} hides every GPU")
    chosen: list[int] = []
    warnings: list[str] = []
    for entry in (part.strip() for part in value.split(",")):
        if entry.startswith("MIG-"):
            raise MissingError(
                f"CUDA_VISIBLE_DEVICES={value} names a MIG slice; slices have no peer-to-peer, name whole GPUs of "
                f"{_known(gpus)}"
            )
        index = _index(entry, gpus)
        if index is None:
            if entry not in ("", "-1"):
                warnings.append(
                    f"CUDA_VISIBLE_DEVICES={value}: {entry} is no usable GPU (there are {_known(gpus)}); CUDA "
                    "ignores it and all after it"
                )
            break
        if index not in chosen:
            chosen.append(index)
    if not chosen:
        raise MissingError(f"CUDA_VISIBLE_DEVICES={value} leaves no GPU; unset it or use {_known(gpus)}")
    hidden = [f"GPU{gpu.index}" for gpu in gpus if gpu.index not in chosen]
    if hidden:
        warnings.append(f"CUDA_VISIBLE_DEVICES={value} hides {', '.join(hidden)}")
    return tuple(sorted(chosen)), tuple(warnings)


def _index(entry: str, gpus: tuple[Gpu, ...]) -> int | None:
    if entry.isdecimal():
        return next((gpu.index for gpu in gpus if str(gpu.index) == (entry.lstrip("0") or "0")), None)
    matches = [gpu.index for gpu in gpus if entry.startswith("GPU-") and (gpu.uuid or "").startswith(entry)]
    return matches[0] if len(matches) == 1 else None


def _known(gpus: tuple[Gpu, ...]) -> str:
    return ",".join(str(gpu.index) for gpu in gpus)
