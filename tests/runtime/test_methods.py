"""Every method of sharing a sequence gives what float64 attention on the whole gives, forward and backward."""

import pytest
import torch
from sequence_job import errors, joined, padded, run, truth, whole

from runtime.attention import AttentionPlace, attend

SEQUENCE_LEN = 128
# Documents of one token, across chunk borders (every 16 at 4 ranks), and one that spans most of the sequence.
DOCUMENTS = [[0, 1, 7, 40, 41, 100], [0, 16, 120]]
WAYS = (
    ("ring", 1, 2),
    ("ring", 1, 4),
    ("allgather", 1, 2),
    ("allgather", 1, 4),
    ("ulysses", 2, 2),
    ("ulysses", 4, 4),
    ("usp", 2, 4),
)
"""Method, ranks that exchange heads, ranks in all."""


@pytest.mark.parametrize("documents", [None, DOCUMENTS], ids=["causal", "packed"])
@pytest.mark.parametrize("heads", [(8, 8), (8, 2), (8, 1)], ids=["8:8", "8:2", "8:1"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_every_method_is_as_exact_as_one_kernel_on_1_2_and_4_ranks(gloo_pool, dtype, heads, documents):
    right = truth(*whole(SEQUENCE_LEN, *heads, dtype), documents)

    def measure(method, ulysses, world):
        shares = gloo_pool.run(world, run, method, ulysses, SEQUENCE_LEN, heads, dtype, documents)
        return errors(joined(shares), right)

    single = measure("none", 1, 1)
    found = {(method, world): measure(method, ulysses, world) for method, ulysses, world in WAYS}
    if dtype == torch.float32:
        for way, error in {("none", 1): single, **found}.items():
            assert max(error.values()) < 1e-5, f"{way}: {error}"
        return
    for way, error in found.items():
        for name in ("out", "dq"):
            assert error[name] <= 1.2 * single[name], f"{name} of {way}: {error[name]:.2e}, not {single[name]:.2e}"
        for name in ("dk", "dv"):
            assert error[name] <= 1.35 * single[name], f"{name} of {way}: {error[name]:.2e}"
        assert error["lse"] < 1e-4, f"lse of {way}: {error['lse']:.2e}"
    for method in ("ring", "allgather", "ulysses"):
        for name in ("out", "dq", "dk", "dv"):
            grown = found[method, 4][name] / found[method, 2][name]
            assert grown <= 1.1, f"{name} of {method} is {grown:.2f} times as far off on 4 ranks as on 2"


@pytest.mark.parametrize(("method", "ulysses"), [("ring", 1), ("allgather", 1), ("ulysses", 2)])
def test_what_another_document_holds_changes_nothing(gloo_pool, method, ulysses):
    """Out of the document at 40 is the same, bit for bit in float32, whatever stands before it."""
    alone = gloo_pool.run(2, run_with_other_past, method, ulysses, False)
    spoiled = gloo_pool.run(2, run_with_other_past, method, ulysses, True)
    for mine, other in zip(alone, spoiled, strict=True):
        assert torch.equal(mine, other)


def run_with_other_past(rank, world, method, ulysses, spoils):
    """Out and dk of this rank's tokens from 40 on, where the tokens before may be others."""
    from sequence_job import make_place

    from runtime import zigzag

    tensors = [tensor[:1] for tensor in whole(SEQUENCE_LEN, 8, 2, torch.float32)]
    if spoils:
        for tensor in tensors:
            tensor[:, :40] += 5.0
    q, k, v, dout = (zigzag.shard(tensor, rank=rank, cp=world, dim=1).clone() for tensor in tensors)
    for tensor in (q, k, v):
        tensor.requires_grad_()
    out, _ = attend(q, k, v, torch.tensor([[0, 40]]), make_place(rank, world, method, ulysses))
    out.backward(dout)
    mine = zigzag.positions(rank, world, SEQUENCE_LEN) >= 40
    return torch.cat((out.detach()[:, mine].flatten(), k.grad[:, mine].flatten()))


def test_padding_behind_a_shorter_sequence_is_masked():
    """A sequence padded to full length, its padding a document of its own: real tokens as without the padding."""
    short = 100
    q, k, v, dout = whole(SEQUENCE_LEN, 8, 2, torch.float32)
    dout[:, short:] = 0
    right = truth(*(tensor[:, :short] for tensor in (q, k, v, dout)), None)
    for tensor in (q, k, v):
        tensor.requires_grad_()
    out, lse = attend(q, k, v, padded([[0, short]] * 2, SEQUENCE_LEN), AttentionPlace(kernel="cpu"))
    out.backward(dout)
    got = [out.detach()[:, :short], lse[:, :, :short], *(tensor.grad[:, :short] for tensor in (q, k, v))]
    assert max(errors(got, right).values()) < 1e-5
    assert all(not tensor.grad[:, short:].any() for tensor in (q, k, v)), "padding gets no gradient"
