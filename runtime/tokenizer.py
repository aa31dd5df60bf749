"""Text to token ids: a Hugging Face tokenizer.json, or bytes.

The bytes tokenizer needs no file: ids 0 to 255 are the bytes of UTF-8, 256
begins a document, 257 ends it, 258 pads. Any vocabulary of 259 or more holds it.
"""

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from runtime.errors import ConfigError

BOS, EOS, PAD = 256, 257, 258
BYTES_VOCABULARY = 259


class Tokenizer(Protocol):
    """What the data needs of a tokenizer."""

    name: str
    pad: int
    """Fills the end of a padded piece; its label is ignored and no token before it sees it."""

    def encode(self, text: str) -> Tensor:
        """The ids of one document, int32."""
        ...


class BytesTokenizer:
    """UTF-8 bytes between a mark of beginning and one of end."""

    name = "bytes"
    pad = PAD

    def encode(self, text: str) -> Tensor:
        """[256, bytes…, 257]."""
        data = text.encode()
        ids = torch.empty(len(data) + 2, dtype=torch.int32)
        ids[0], ids[-1] = BOS, EOS
        if data:
            ids[1:-1] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        return ids

    def decode(self, ids: Tensor) -> str:
        """The text again; marks and padding are left out."""
        return bytes(ids[ids < 256].tolist()).decode(errors="replace")


class FileTokenizer:
    """A tokenizer.json, read by the `tokenizers` library; its post-processor adds what the model wants."""

    pad = 0

    def __init__(self, path: Path) -> None:
        try:
            from tokenizers import Tokenizer as Backend
        except ImportError:
            raise ConfigError(
                str(path), ["needs the package tokenizers; install it, or set cpadvisor.tokenizer: bytes"]
            ) from None
        try:
            self._backend = Backend.from_file(str(path))
        except Exception as error:  # the library raises plain Exception for whatever it cannot read
            raise ConfigError(str(path), [f"is no tokenizer.json: {error}"]) from None
        self.name = str(path)

    def encode(self, text: str) -> Tensor:
        """The ids, special tokens included."""
        return torch.tensor(self._backend.encode(text).ids, dtype=torch.int32)


def load(path: Path | None) -> Tokenizer:
    """The tokenizer of a file, or the bytes tokenizer for None."""
    return BytesTokenizer() if path is None else FileTokenizer(path)
