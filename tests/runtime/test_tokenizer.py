from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runtime import tokenizer
from runtime.errors import ConfigError


def test_bytes_stand_between_256_and_257() -> None:
    ids = tokenizer.BytesTokenizer().encode("aé")
    # é is C3 A9 in UTF-8.
    assert ids.tolist() == [256, 97, 0xC3, 0xA9, 257]
    assert ids.dtype == torch.int32


@given(st.text())
def test_text_comes_back_from_its_bytes(text: str) -> None:
    backend = tokenizer.BytesTokenizer()
    ids = backend.encode(text)
    padded = torch.cat([ids, torch.full((3,), backend.pad, dtype=torch.int32)])
    assert backend.decode(padded) == text
    assert int(ids.max()) < tokenizer.BYTES_VOCABULARY


def test_a_tokenizer_json_is_read(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    backend = Tokenizer(WordLevel({"round": 5, "the": 3, "ring": 9, "?": 0}, unk_token="?"))
    backend.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    backend.save(str(tmp_path / "tokenizer.json"))
    assert tokenizer.load(tmp_path / "tokenizer.json").encode("round the ring").tolist() == [5, 3, 9]


def test_a_file_that_is_no_tokenizer_says_so(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"is no tokenizer\.json"):
        tokenizer.load(path)
