"""The methods with the kernels of a GPU. The ranks are threads on one device, so that one GPU shows what several do."""

import threading

import pytest
import torch
from sequence_job import errors, mask

from runtime import allgather, ring, zigzag
from runtime.blocks import Place
from runtime.kernel_choice import CANDIDATES, KERNELS, choose_kernel, usable_kernels
from runtime.partial import Given, Gradients, Output

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

TOKENS, HEADS, KV_HEADS, HEAD_DIM = 2048, 8, 2, 128
SHAPE = {"heads": HEADS, "kv_heads": KV_HEADS, "head_dim": HEAD_DIM}
DOCUMENTS = (0, 1, 300, 777, 1500)


class Threads:
    """Stands in for a process group: each rank is a thread, a message a tensor in a mailbox."""

    def __init__(self, size):
        self.size = size
        self.barrier = threading.Barrier(size)
        self.sent = {}

    def run(self, work):
        results = [None] * self.size

        def as_rank(rank):
            results[rank] = work(rank)

        threads = [threading.Thread(target=as_rank, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


class Came:
    def __init__(self, parts):
        self.parts = parts

    def wait(self):
        return self.parts

    def wait_for_one(self):
        (parts,) = self.parts.values()
        return parts


class Lanes:
    """Stands in for runtime.comm: one lane of each kind a thread."""

    def __init__(self, threads):
        self.threads, self.here = threads, threading.local()

    def lane(self, group, kind, device, *, slots=2):
        lanes = self.here.__dict__.setdefault("lanes", {})
        # Kinds count apart, and their mailboxes must not mix.
        return lanes.setdefault(kind, ThreadLane(self.threads, self.here.rank, kind))


class ThreadLane:
    """A lane between threads; all take part in the same exchanges in the same order."""

    def __init__(self, threads, rank, kind):
        self.threads, self.rank, self.kind, self.count = threads, rank, kind, 0

    def start(self, outgoing, incoming, *, room_bytes):
        self.count += 1
        for peer, parts in outgoing.items():
            self.threads.sent[self.kind, self.count, self.rank, peer] = tuple(part.clone() for part in parts)
        self.threads.barrier.wait(timeout=60)
        came = {source: self.threads.sent[self.kind, self.count, source, self.rank] for source in incoming}
        for source, parts in came.items():
            assert [part.shape for part in parts] == [torch.Size(shape) for shape in incoming[source]]
        return Came(came)


def whole_tensors():
    generator = torch.Generator(device="cuda").manual_seed(7)
    return [
        torch.randn(1, TOKENS, heads, HEAD_DIM, device="cuda", dtype=torch.bfloat16, generator=generator)
        for heads in (HEADS, KV_HEADS, KV_HEADS, HEADS)
    ]


def truth(q, k, v, dout, documents):
    q, k, v = (tensor.double().requires_grad_() for tensor in (q, k, v))
    times = HEADS // KV_HEADS
    scores = torch.einsum("bshd,bthd->bhst", q, k.repeat_interleave(times, dim=2)) * HEAD_DIM**-0.5
    seen = mask(TOKENS, list(documents or (0,))).to("cuda")
    scores = scores.masked_fill(~seen, float("-inf"))
    out = torch.einsum("bhst,bthd->bshd", scores.softmax(-1), v.repeat_interleave(times, dim=2))
    out.backward(dout.double())
    return [out.detach(), scores.logsumexp(-1).detach(), q.grad, k.grad, v.grad]


def single(kernel, tensors, documents):
    q, k, v, dout = tensors
    place = Place(rank=0, size=1, local=TOKENS, documents=documents)
    out, lse = Output(q, k, v, place, kernel).result()
    given = Given(dout=dout, q=q, out=out, lse=lse)
    return [out, lse, *Gradients(given, k, v, place, kernel).result()]


@pytest.mark.parametrize("documents", [None, DOCUMENTS], ids=["causal", "packed"])
@pytest.mark.parametrize("method", [ring, allgather], ids=["ring", "allgather"])
@pytest.mark.parametrize("name", [candidate.kernel.name for candidate in CANDIDATES])
@pytest.mark.parametrize("size", [2, 4, 8])
def test_a_method_over_a_gpu_kernel_is_as_exact_as_the_kernel_alone(monkeypatch, name, size, method, documents):
    if name not in usable_kernels(torch.device("cuda", 0), torch.bfloat16, **SHAPE):
        pytest.skip(f"{name} does not run here")
    kernel = KERNELS[name]
    kernel = (kernel.for_documents or kernel) if documents is not None else kernel
    tensors = whole_tensors()
    threads = Threads(size)
    lanes = Lanes(threads)
    monkeypatch.setattr(method, "comm", lanes)

    def work(rank):
        lanes.here.rank = rank
        q, k, v, dout = (zigzag.shard(tensor, rank=rank, cp=size, dim=1) for tensor in tensors)
        place = Place(rank=rank, size=size, local=q.shape[1], documents=documents)
        out, lse = method.forward(q, k, v, place, None, kernel)
        given = Given(dout=dout, q=q, out=out, lse=lse)
        return [out, lse, *method.backward(given, k, v, place, None, kernel)]

    shares = threads.run(work)
    dims = (1, 2, 1, 1, 1)
    results = [zigzag.unshard(list(parts), dim=dim) for parts, dim in zip(zip(*shares, strict=True), dims, strict=True)]
    right = truth(*tensors, documents)
    own, found = errors(single(kernel, tensors, documents), right), errors(results, right)
    for quantity, most in {"out": 1.2, "dq": 1.2, "dk": 1.35, "dv": 1.35}.items():
        assert found[quantity] <= most * own[quantity], f"{quantity}: {found[quantity]:.2e}, not {own[quantity]:.2e}"
    assert found["lse"] < 1e-4


def test_the_chosen_kernel_is_the_first_that_is_right_here():
    device = torch.device("cuda", 0)
    assert (
        choose_kernel(device, torch.bfloat16, **SHAPE).kernel.name == usable_kernels(device, torch.bfloat16, **SHAPE)[0]
    )
