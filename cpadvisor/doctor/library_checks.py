"""The interpreter that trains: torch, the GPU through it, NCCL, cuDNN, flash-attn and the readers of weights."""

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.facts import Answer, LibraryFacts, MachineFacts
from cpadvisor.units import DASH

OLDEST_TORCH = (2, 11)
"""What the bundled trainer asks for (pyproject, extra `train`)."""

FLASH = {
    "flash-attn-2": ("flash_attn", "flash_attn_func"),
    "flash-attn-3": ("flash_attn_interface", "flash_attn_func"),
    "flash-attn-4": ("flash_attn.cute", "flash_attn_func"),
}
"""Rule to the module that is imported and the function that it has to have."""
READERS = ("safetensors", "tokenizers")


def library_checks(facts: MachineFacts) -> Iterator[Diagnosis]:
    """All of them; without an interpreter that has torch, the one line that says so."""
    libraries, gpus = facts.libraries, facts.has_gpus
    if libraries.python is None:
        yield _no_python(libraries, gpus=gpus)
        return
    if libraries.torch.data is None:
        yield _torch_fails(libraries)
        return
    torch = libraries.torch.data
    yield _torch(libraries, torch)
    if gpus:
        yield _cuda(facts, torch)
        yield from _nccl(facts, torch)
        yield from _cudnn(libraries, torch)
        yield from _flash(libraries)
    yield from _readers(libraries)


def _python(libraries: LibraryFacts) -> str:
    """The interpreter that was asked, quoted."""
    return shlex.quote(libraries.python or "python")


def _pip(libraries: LibraryFacts) -> str:
    return f"{_python(libraries)} -m pip install"


def _other_torch(facts: MachineFacts, words: str) -> Mend:
    """Replaces the torch that is installed: `pip install torch` alone leaves it as it is.

    Any build of a CUDA major runs on every driver of it (minor version compatibility).
    """
    newest = next(iter(_version(facts.driver.cuda or "")), None)
    fits = "" if newest is None else f", CUDA {newest} at most"
    return Mend(
        text=f"{words}{fits}; the selector of pytorch.org names the build for this driver",
        command=f"{_pip(facts.libraries)} --force-reinstall torch",
    )


def _no_python(libraries: LibraryFacts, *, gpus: bool) -> Diagnosis:
    reason = libraries.no_python or "no interpreter has torch"
    first, *rest = [line.strip() for line in reason.splitlines() if line.strip()]
    return Diagnosis(
        rule="torch",
        severity="error" if gpus else "warning",
        title="no interpreter has what training needs",
        evidence="; ".join((first.rstrip(":"), *rest[:-1])) if rest else first,
        effect="planning works, training does not",
        mends=(
            Mend(text="install torch where cpadvisor is", command="pip install 'cpadvisor[train]'"),
            Mend(text="or name the interpreter that has it", command="cpadvisor doctor --python PATH"),
        ),
    )


def _torch_fails(libraries: LibraryFacts) -> Diagnosis:
    answer = libraries.torch
    return Diagnosis(
        rule="torch",
        severity="error",
        title="torch does not import",
        evidence=f"{libraries.python}, in a child with {answer.given_s:g} s: {answer.why}",
        effect="nothing trains with this interpreter",
        mends=(Mend(text="install it anew", command=f"{_pip(libraries)} --force-reinstall torch"),),
    )


def _torch(libraries: LibraryFacts, torch: Mapping[str, Any]) -> Diagnosis:
    answer = libraries.torch
    seen = (
        f"{libraries.python}: torch {torch['version']}, CUDA build {torch['cuda'] or 'none'}; "
        f"imported in {answer.took_s:.1f} s of {answer.given_s:g} s"
    )
    oldest = ".".join(map(str, OLDEST_TORCH))
    if _version(str(torch["version"]))[:2] < OLDEST_TORCH:
        return Diagnosis(
            rule="torch",
            severity="warning",
            title=f"torch {torch['version']} is older than {oldest}",
            evidence=f"{seen}; the bundled trainer is written for {oldest} and newer",
            effect="operators that the trainer calls may be missing",
            mends=(Mend(text="bring it up to date", command=f"{_pip(libraries)} -U 'torch>={oldest}'"),),
        )
    return Diagnosis(rule="torch", severity="ok", title=f"torch {torch['version']}", evidence=seen)


def _cuda(facts: MachineFacts, torch: Mapping[str, Any]) -> Diagnosis:
    node = facts.driver.node
    there = len(node.gpus) if node is not None else 0
    builds = f"CUDA build {torch['cuda'] or 'none'}, driver {facts.driver.cuda or DASH}"
    seen = f"{torch['devices']} of {there} GPUs by torch, {builds}"
    if torch["available"] and not torch.get("error"):
        evidence = f"{seen}; a bf16 product is right"
        return Diagnosis(rule="cuda", severity="ok", title="torch computes on the GPUs", evidence=evidence)
    title, effect, mend = _why_no_product(facts, torch)
    why = f"; {torch['error']}" if torch.get("error") else ""
    return Diagnosis(rule="cuda", severity="error", title=title, evidence=seen + why, effect=effect, mends=(mend,))


def _why_no_product(facts: MachineFacts, torch: Mapping[str, Any]) -> tuple[str, str, Mend]:
    """Title, effect and mend where the product failed or could not be made."""
    runs = facts.driver.cuda
    if torch["cuda"] is None:
        mend = _other_torch(facts, "install a build for CUDA in its place")
        return f"torch {torch['version']} has no CUDA", "it trains on the CPU beside idle GPUs", mend
    if _version(runs or "") and _version(str(torch["cuda"]))[:1] > _version(runs or "")[:1]:
        title = f"torch is built for CUDA {torch['cuda']}, the driver runs {runs}"
        return title, "no kernel starts", _other_torch(facts, "install a newer driver, or an older build")
    if not torch["available"]:
        asked = f"{_python(facts.libraries)} -c 'import torch; torch.zeros(1).cuda()'"
        effect = "it trains on the CPU, or not at all"
        return "torch sees no GPU", effect, Mend(text="see what CUDA itself says", command=asked)
    mend = Mend(text="see who holds the GPU, and its errors", command="nvidia-smi")
    return "the first product on a GPU fails", "so will the training", mend


def _nccl(facts: MachineFacts, torch: Mapping[str, Any]) -> Iterator[Diagnosis]:
    version, libraries = torch.get("nccl"), facts.libraries
    if version is None:
        if torch["cuda"] is not None and torch.get("nccl_built") is False:
            evidence = f"torch {torch['version']} is built without NCCL"
            yield Diagnosis(
                rule="nccl",
                severity="error",
                title="no NCCL",
                evidence=evidence,
                effect="GPUs cannot exchange anything: no run on more than one",
                mends=(_other_torch(facts, "install a build that has it"),),
            )
        return
    yield from _shadowed("nccl", libraries, torch, loaded=tuple(version))


def _cudnn(libraries: LibraryFacts, torch: Mapping[str, Any]) -> Iterator[Diagnosis]:
    number = torch.get("cudnn")
    if number is not None:
        # cuDNN 9 counts 91900 for 9.19.0; 8 counted 8907 for 8.9.7.
        split = (10000, 100) if number >= 90000 else (1000, 100)
        loaded = (number // split[0], number % split[0] // split[1], number % split[1])
        yield from _shadowed("cudnn", libraries, torch, loaded=loaded)


def _shadowed(
    name: str, libraries: LibraryFacts, torch: Mapping[str, Any], *, loaded: tuple[int, ...]
) -> Iterator[Diagnosis]:
    """The library that is really loaded, against the wheel that torch was installed with."""
    wheels: Mapping[str, str] = (libraries.found.data or {}).get("wheels", {})
    wheel = next((version for key, version in wheels.items() if re.fullmatch(rf"nvidia-{name}(-cu\d+)?", key)), None)
    title = {"nccl": "NCCL", "cudnn": "cuDNN"}[name]
    text = ".".join(map(str, loaded))
    path = (torch.get("loaded") or {}).get(name)
    seen = f"loaded {text}" + (f" from {path}" if path else "") + f"; the wheel is {wheel or DASH}"
    if wheel is None or _version(wheel)[: len(loaded)] == loaded:
        yield Diagnosis(rule=name, severity="ok", title=f"{title} {text}", evidence=seen)
        return
    yield Diagnosis(
        rule=name,
        severity="warning",
        title=f"{title} {text} is loaded in place of the wheel's {wheel}",
        evidence=seen,
        effect="torch is built and tested with the wheel's: kernels may be slower, or missing",
        mends=(Mend(text="take the folder that shadows it out of the search path", command="unset LD_LIBRARY_PATH"),),
        card=("C7",) if name == "cudnn" else (),
    )


def _flash(libraries: LibraryFacts) -> Iterator[Diagnosis]:
    tried = {rule: libraries.imports[module] for rule, (module, _) in FLASH.items() if module in libraries.imports}
    if not tried:
        yield Diagnosis(
            rule="flash-attn",
            severity="ok",
            title="flash-attn is not installed",
            evidence="the bundled trainer takes cuDNN's kernel; axolotl fetches one from the hub",
            card=("L1",),
        )
    for rule, answer in tried.items():
        effect = "attention falls back to a slower kernel, about half as fast on Hopper"
        yield _imports(rule, answer, effect, _flash_mend(rule, libraries), ("L1", "C7"))


def _flash_mend(rule: str, libraries: LibraryFacts) -> Mend:
    """How PyPI has it: 2 as flash-attn, which is compiled against torch, 4 as flash-attn-4; 3 is built from its source.

    Without --no-deps pip would install another torch, too, and without --no-cache-dir the wheel that it built before.
    """
    if rule == "flash-attn-3":
        return Mend(text="build it against this torch: the folder hopper of github.com/Dao-AILab/flash-attention")
    again = f"{_pip(libraries)} --force-reinstall --no-deps"
    if rule == "flash-attn-4":
        return Mend(text="install it anew", command=f"{again} 'flash-attn-4>=4.0.0b1'")
    return Mend(text="build it against this torch", command=f"{again} --no-cache-dir --no-build-isolation flash-attn")


def _readers(libraries: LibraryFacts) -> Iterator[Diagnosis]:
    for module in READERS:
        answer = libraries.imports.get(module)
        if answer is not None:
            mend = Mend(text="install it anew", command=f"{_pip(libraries)} --force-reinstall {module}")
            yield _imports(module, answer, "pretrained weights or text cannot be read", mend, ())
        else:
            yield Diagnosis(
                rule=module,
                severity="note",
                title=f"{module} is not installed",
                evidence=f"{libraries.python} has no {module}",
                effect="pretrained weights or text cannot be read; random weights and bytes work",
                mends=(Mend(text="install it", command=f"{_pip(libraries)} {module}"),),
            )


def _imports(rule: str, answer: Answer, effect: str, mend: Mend, card: tuple[str, ...]) -> Diagnosis:
    given = f"in a child with {answer.given_s:g} s"
    if answer.data is not None:
        version = answer.data.get("version") or ""
        evidence = f"imported in {answer.took_s:.1f} s, {given}"
        return Diagnosis(rule=rule, severity="ok", title=f"{rule} {version}".strip(), evidence=evidence, card=card)
    return Diagnosis(
        rule=rule,
        severity="warning",
        title=f"{rule} is installed and does not import",
        evidence=f"{given}: {answer.why}",
        effect=effect,
        mends=(mend,),
        card=card,
    )


def _version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: `2.13.0+cpu` is (2, 13, 0)."""
    parts: list[int] = []
    for part in text.split("+")[0].split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)
