"""Run by the interpreter that trains: says as JSON what is installed, what torch sees, and whether a module imports.

`installed MODULE…`, `torch`, or `import MODULE [NAME]`. Standard library alone; torch is imported by its name, for
the interpreter that runs the advisor may not have it.
"""

import contextlib
import fcntl
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import select
import signal
import sys
from pathlib import Path

WHEELS = ("torch", "nvidia-cudnn", "nvidia-nccl", "flash-attn", "axolotl", "safetensors", "tokenizers")
"""Beginnings of the names of wheels whose versions matter."""
LIFELINE = "CPADVISOR_LIFELINE"
"""The number of the end of a pipe whose other end the asker holds."""


def end_with_asker():
    """From now on the kernel kills this process and all of its group as soon as its asker is gone.

    It does so, too, where an import that waits for the driver lets no thread of Python run.
    """
    number = os.environ.pop(LIFELINE, None)
    if number is None:
        return
    with contextlib.suppress(OSError, ValueError):  # a wrapper of the interpreter may have closed it
        end = int(number)
        fcntl.fcntl(end, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(end, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_ASYNC)
        if select.select([end], [], [], 0)[0]:  # it went before
            os.killpg(0, signal.SIGKILL)


def installed(modules):
    """Modules that are there, without importing them, and the versions of wheels."""
    present = [name for name in modules if _is_there(name)]
    wheels = {}
    for one in importlib.metadata.distributions():
        name = (one.metadata["Name"] or "").lower().replace("_", "-")
        if name.startswith(WHEELS):
            wheels[name] = one.version
    return {"python": ".".join(map(str, sys.version_info[:3])), "modules": present, "wheels": wheels}


def _is_there(name):
    top, _, inner = name.partition(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    if spec is None or not inner:
        return spec is not None
    return any((Path(place) / inner).is_dir() for place in spec.submodule_search_locations or ())


def torch_facts():
    """Versions, devices, and one small product on the first GPU: what a training begins with."""
    torch = importlib.import_module("torch")
    facts = {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "available": torch.cuda.is_available(),
        "devices": torch.cuda.device_count(),
        "distributed": torch.distributed.is_available(),
        "cudnn": torch.backends.cudnn.version() if torch.version.cuda else None,
    }
    if facts["distributed"]:
        facts["gloo"] = torch.distributed.is_gloo_available()
        facts["nccl_built"] = torch.distributed.is_nccl_available()
    if facts["available"]:
        facts["nccl"] = list(torch.cuda.nccl.version())
        facts["bf16"] = torch.cuda.is_bf16_supported()
        facts["error"] = _try_gpu(torch)
    facts["loaded"] = loaded_libraries()
    return facts


def _try_gpu(torch):
    try:
        one = torch.ones(256, 256, device="cuda", dtype=torch.bfloat16)
        product = (one @ one).float().sum().item()
        return None if product == 256.0**3 else f"a product of ones came out as {product!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def loaded_libraries(maps="/proc/self/maps"):
    """Where the libraries of cuDNN and NCCL that this process holds were loaded from."""
    found = {}
    for match in re.finditer(r"(/\S*/lib(cudnn|nccl)[^/\s]*\.so[^/\s]*)$", Path(maps).read_text(), re.MULTILINE):
        found.setdefault(match.group(2), match.group(1))
    return found


def imported(module, name=None):
    """Import a module, and a name of it."""
    found = importlib.import_module(module)
    if name:
        getattr(found, name)
    return {"version": str(getattr(found, "__version__", "")) or None}


def main(argv):
    """Answer one question; the JSON is the last line of stdout."""
    end_with_asker()
    what, rest = argv[0], argv[1:]
    answer = installed(rest) if what == "installed" else torch_facts() if what == "torch" else imported(*rest)
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
