"""The ring with the kernels of a GPU. The ranks are threads on one device, so that one GPU shows what several do."""

import queue
import threading

import pytest
import torch
import torch.nn.functional as F

from runtime import ring, zigzag
from runtime.attention import CUDNN, FLASH, choose_kernel

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

TOKENS, HEADS, KV_HEADS, HEAD_DIM = 2048, 8, 2, 128


class ThreadRing:
    """Stands in for a process group: each rank is a thread, a hop puts a tensor into the next one's mailbox."""

    def __init__(self, size):
        self.size = size
        self.mailboxes = [queue.Queue() for _ in range(size)]
        self.here = threading.local()

    def place(self, group):
        return self.here.rank, self.size

    def start_hop(self, tensor, group):
        self.mailboxes[(self.here.rank + 1) % self.size].put(tensor.clone())
        return Arrival(self.mailboxes[self.here.rank])

    def run(self, work):
        results = [None] * self.size

        def as_rank(rank):
            self.here.rank = rank
            results[rank] = work(rank)

        threads = [threading.Thread(target=as_rank, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


class Arrival:
    def __init__(self, mailbox):
        self.mailbox = mailbox

    def wait(self):
        return self.mailbox.get(timeout=60)


def whole_tensors():
    generator = torch.Generator(device="cuda").manual_seed(7)
    return [
        torch.randn(1, TOKENS, heads, HEAD_DIM, device="cuda", dtype=torch.bfloat16, generator=generator)
        for heads in (HEADS, KV_HEADS, KV_HEADS, HEADS)
    ]


def truth(q, k, v, dout):
    q, k, v = (tensor.double().requires_grad_() for tensor in (q, k, v))
    repeat = HEADS // KV_HEADS
    k_all, v_all = (tensor.repeat_interleave(repeat, dim=2) for tensor in (k, v))
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        out = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k_all, v_all)), is_causal=True)
    out = out.transpose(1, 2)
    out.backward(dout.double())
    return out.detach(), q.grad, k.grad, v.grad


def relative(value, expected):
    return ((value.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("kernel", [CUDNN, FLASH], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_a_ring_over_gpu_kernels_is_as_exact_as_one_kernel(monkeypatch, kernel, size):
    whole = whole_tensors()
    threads = ThreadRing(size)
    monkeypatch.setattr(ring, "_place", threads.place)
    monkeypatch.setattr(ring, "start_hop", threads.start_hop)

    def work(rank):
        q, k, v, dout = (zigzag.shard(tensor, rank=rank, cp=size, dim=1) for tensor in whole)
        out, lse = ring.ring_forward(q, k, v, object(), kernel)
        return out, *ring.ring_backward(dout, q, k, v, out, lse, object(), kernel)

    shares = threads.run(work)
    expected = truth(*whole)
    # bf16 rounds each operand to 2^-9 relative: one kernel is off by 2e-3 to 5e-3, and ranks add nothing to it.
    for name, parts, right in zip(("out", "dq", "dk", "dv"), zip(*shares, strict=True), expected, strict=True):
        error = relative(zigzag.unshard(list(parts), dim=1), right)
        print(f"{kernel.name} {size} ranks {name} {error:.1e}")
        assert error < 6e-3, f"{name} of {size} ranks with {kernel.name} is off by {error:.1e}"


def test_the_first_choice_on_a_hopper_gpu_is_cudnn():
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("not a Hopper GPU")
    choice = choose_kernel(torch.device("cuda", 0), torch.bfloat16, heads=HEADS, kv_heads=KV_HEADS, head_dim=HEAD_DIM)
    assert choice.kernel is CUDNN
    assert choice.passed_over == ()
