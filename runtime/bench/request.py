"""What a measurement is asked for: the words of the command line become one Request, or one error with every reason."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.bench.shape import PASSES
from runtime.errors import ConfigError

SHORT_PASSES = {"fwd": "forward", "bwd": "backward"}
_SIZE = re.compile(r"(\d{1,12})([km]?)", re.IGNORECASE)
_SCALE = {"": 1, "k": 1024, "m": 1024**2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Rows and variants to measure."""

    sizes: tuple[int, ...]
    """Tokens of the whole sequence, ascending."""
    heads: tuple[tuple[int, int], ...]
    """Query heads and key/value heads."""
    methods: tuple[str, ...]
    kernels: tuple[str, ...]
    passes: tuple[str, ...]
    repeats: int
    leaves_out: bool
    """Whether a long row does without the variants that were slower in the row before."""
    json_path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What can be asked for on this machine, and what is measured where nothing is asked for."""

    ranks: int
    device: str
    """`cuda` or `cpu`."""
    methods: tuple[str, ...]
    kernels: tuple[str, ...]

    @property
    def sizes(self) -> str:
        """Lengths by default."""
        return "8k,16k,32k,64k,128k,256k" if self.device == "cuda" else "1k,2k"

    @property
    def heads(self) -> str:
        """Head counts by default."""
        return "32:8,32:32" if self.device == "cuda" else "4:2"


class Words:
    """Reads words and collects what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def sizes(self, text: str, ranks: int) -> tuple[int, ...]:
        """`8k,16k` is 8,192 and 16,384. Each rank holds two of 2 x ranks equal chunks."""
        found: set[int] = set()
        for word in _split(text):
            match = _SIZE.fullmatch(word)
            if match is None:
                self.problems.append(f"--sizes {word} is no number of tokens; write for example 8192 or 8k")
                continue
            tokens, chunks = int(match[1]) * _SCALE[match[2].lower()], 2 * ranks
            if tokens % chunks or not tokens:
                below = tokens // chunks * chunks
                near = f"{below} or {below + chunks}" if below else f"{chunks}"
                self.problems.append(
                    f"--sizes {word} does not split into {chunks} equal chunks (2 a rank, {ranks} ranks); use {near}"
                )
            found.add(tokens)
        return tuple(sorted(found))

    def heads(self, text: str) -> tuple[tuple[int, int], ...]:
        """`32:8` is 32 query heads and 8 key/value heads; `32` is 32 of each."""
        found: list[tuple[int, int]] = []
        for word in _split(text):
            match = re.fullmatch(r"(\d{1,4})(?::(\d{1,4}))?", word)
            heads, kv_heads = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
            if not heads or not kv_heads:
                self.problems.append(f"--heads {word} is not query heads:key/value heads; write for example 32:8")
            elif heads % kv_heads:
                near = max(count for count in range(1, kv_heads + 1) if heads % count == 0)
                self.problems.append(
                    f"--heads {word}: {heads} query heads do not split over {kv_heads} key/value heads; "
                    f"use {heads}:{near}"
                )
            found.append((heads, kv_heads))
        return tuple(dict.fromkeys(found))

    def names(self, flag: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
        """Names out of those that are known here."""
        words = _split(text)
        for word in words:
            if word not in known:
                near = difflib.get_close_matches(word, list(known), n=1)
                hint = f"did you mean {near[0]}?" if near else f"use {' or '.join(known)}"
                self.problems.append(f"{flag} {word} is none of those here ({', '.join(known)}); {hint}")
        return tuple(dict.fromkeys(words))

    def count(self, flag: str, value: int) -> int:
        """A number from 1 up."""
        if value < 1:
            self.problems.append(f"{flag} {value} is below 1; use 1 or more")
        return value

    def file(self, flag: str, path: Path | None) -> Path | None:
        """A file to write, in a folder that is there."""
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            self.problems.append(
                f"{flag} {path} cannot be written: {'a folder' if path.is_dir() else 'no such folder'}"
            )
        return path


def read(
    offer: Offer,
    *,
    sizes: str | None,
    heads: str | None,
    methods: str | None,
    kernels: str | None,
    passes: str | None,
    repeats: int,
    measures_all: bool,
    json_path: Path | None,
) -> Request:
    """The request in these words; raises ConfigError with every reason why not. None is the offer's default."""
    words = Words()
    named = {"methods": (methods, offer.methods), "kernels": (kernels, offer.kernels)}
    request = Request(
        sizes=words.sizes(offer.sizes if sizes is None else sizes, offer.ranks),
        heads=words.heads(offer.heads if heads is None else heads),
        **{name: words.names(f"--{name}", text or ",".join(known), known) for name, (text, known) in named.items()},
        passes=_in_order(words.names("--passes", _long(passes), PASSES)),
        repeats=words.count("--repeats", repeats),
        leaves_out=not measures_all,
        json_path=words.file("--json", json_path),
    )
    if words.problems:
        raise ConfigError("runtime.bench", words.problems)
    return request


def _long(passes: str | None) -> str:
    return ",".join(SHORT_PASSES.get(word, word) for word in _split(passes or ",".join(PASSES)))


def _in_order(passes: Iterable[str]) -> tuple[str, ...]:
    asked = set(passes)
    return tuple(name for name in PASSES if name in asked)


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]
