"""One row of the table: a causal attention of some length and heads over some ranks, and the work that is in it."""

from dataclasses import dataclass

PASSES = ("forward", "backward", "both")
"""Forward without a graph, backward alone over a kept graph, one after the other as in training."""
HEAD_DIM = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Causal attention of batch 1 over the whole sequence, which `ranks` hold together."""

    tokens: int
    """Of the whole sequence; a rank holds tokens / ranks."""
    heads: int
    kv_heads: int
    ranks: int
    head_dim: int = HEAD_DIM

    def flops(self, one_pass: str) -> float:
        """FLOP of a pass over the whole sequence, of all ranks together."""
        forward = forward_flops(tokens=self.tokens, heads=self.heads, head_dim=self.head_dim)
        return forward * {"forward": 1.0, "backward": 2.5, "both": 3.5}[one_pass]

    def flops_per_s(self, one_pass: str, seconds: float) -> float:
        """The rate of one rank where all ranks together take `seconds`.

        flops / ranks / seconds: 16,384 tokens with 32 heads of 128 on 2 ranks, both passes in 6.37 ms: 604 TFLOP/s.
        """
        return self.flops(one_pass) / self.ranks / seconds


def forward_flops(*, tokens: int, heads: int, head_dim: int) -> int:
    """FLOP of one causal forward pass of batch 1, whatever the number of key/value heads.

    2 products x 2 FLOP x tokens^2 x heads x head_dim, of which the mask leaves half; backward is 2.5 times that.
    8,192 tokens, 32 heads of 128: 2 x 8,192^2 x 4,096 = 549,755,813,888.
    """
    return 2 * tokens**2 * heads * head_dim
