import pytest
import torch
import torch.nn.functional as F

from runtime.loss import chunk_tokens, head_loss


def made() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(23, 8, generator=generator).requires_grad_()
    weight = torch.randn(50, 8, generator=generator).requires_grad_()
    labels = torch.randint(50, (23,), generator=generator)
    labels[5:9] = -100
    return x, weight, labels


@pytest.mark.parametrize("chunk", [1, 7, 23, 100])
def test_chunks_give_the_loss_and_gradients_of_cross_entropy(chunk: int) -> None:
    x, weight, labels = made()
    loss = head_loss(x, weight, labels, scale=0.25, chunk=chunk)
    (2 * loss).backward()
    x_reference, weight_reference, _ = made()
    reference = F.cross_entropy(x_reference @ weight_reference.t(), labels, ignore_index=-100, reduction="sum") * 0.25
    (2 * reference).backward()
    torch.testing.assert_close(loss, reference, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(x.grad, x_reference.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weight.grad, weight_reference.grad, rtol=1e-5, atol=1e-6)


def test_ignored_labels_alone_give_no_loss_and_no_gradient() -> None:
    x, weight, labels = made()
    head_loss(x, weight, torch.full_like(labels, -100)).backward()
    assert x.grad is not None and weight.grad is not None
    assert x.grad.count_nonzero() == 0
    assert weight.grad.count_nonzero() == 0


def test_the_scale_is_not_rounded_in_bfloat16() -> None:
    x, weight, labels = made()
    x, weight = x.detach().bfloat16().requires_grad_(), weight.detach().bfloat16().requires_grad_()
    # 1 / 300 is 0.2 % off in bfloat16.
    loss = head_loss(x, weight, labels, scale=1 / 300)
    reference = F.cross_entropy((x @ weight.t()).float(), labels, ignore_index=-100, reduction="sum") / 300
    assert loss.item() == pytest.approx(reference.item(), rel=1e-6)
    assert loss.dtype == torch.float32


def test_huge_logits_do_not_overflow() -> None:
    x = torch.full((2, 1), 1e4, requires_grad=True)
    loss = head_loss(x, torch.tensor([[1.0], [0.0]]), torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(1e4)


def test_a_chunk_of_llama_3_has_1046_tokens() -> None:
    # 2^27 / 128,256 = 1,046.5
    assert chunk_tokens(128_256) == 1046
    assert chunk_tokens(2**27) == 128
