"""What a decoder is: its shape, its parameters and its floating-point work.

Covers the dense Llama family (llama, mistral, qwen2, qwen3): RMSNorm, grouped
query attention with rotary positions, SwiGLU.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """The shape of one model, named as Hugging Face's config.json names it."""

    name: str
    family: str
    """`llama`, `mistral`, `qwen2` or `qwen3`."""
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    tied_embeddings: bool
    """The output head shares the embedding's weight, counted once."""
    qkv_bias: bool = False
    qk_norm: bool = False
    """RMSNorm over each head of q and k, as Qwen3 has."""
    max_positions: int
    rope_theta: float
    rope_scaling: tuple[tuple[str, str | float], ...] | None = None
    """Sorted items of config.json's rope_scaling, None where there is none."""
    rms_norm_eps: float = 1e-5
    hub_id: str | None = None
    """The name on the Hugging Face hub; None for a shape of our own."""

    @property
    def q_size(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key heads together, equal to that of all value heads."""
        return self.kv_heads * self.head_dim

    @property
    def layer_parameters(self) -> int:
        """Parameters of one decoder layer: q, k, v, o, three SwiGLU matrices, two norms, biases, head norms.

        Llama-3.1-8B: 2 x 4096 x 4096 + 2 x 4096 x 1024 + 3 x 4096 x 14336 + 2 x 4096 = 218,112,000.
        """
        h, q, kv = self.hidden_size, self.q_size, self.kv_size
        matrices = 2 * h * q + 2 * h * kv + 3 * h * self.intermediate_size
        biases = (q + 2 * kv) if self.qkv_bias else 0
        head_norms = 2 * self.head_dim if self.qk_norm else 0
        return matrices + biases + head_norms + 2 * h

    @property
    def embedding_parameters(self) -> int:
        """One vocabulary matrix: 128,256 x 4,096 = 525,336,576 for Llama-3.1-8B."""
        return self.vocab_size * self.hidden_size

    @property
    def root_parameters(self) -> int:
        """What stands outside the layers: embedding, final norm, and the head unless it is tied."""
        matrices = 1 if self.tied_embeddings else 2
        return matrices * self.embedding_parameters + self.hidden_size

    @property
    def parameters(self) -> int:
        """All parameters, a tied head counted once. Llama-3.1-8B: 8,030,261,248."""
        return self.layers * self.layer_parameters + self.root_parameters

    @property
    def matmul_parameters(self) -> int:
        """Parameters that multiply each token: all but the embedding look-up, the head always counted."""
        return self.layers * self.layer_parameters + self.embedding_parameters + self.hidden_size

    def train_flops(self, *, tokens: int, sequence_len: int) -> float:
        """FLOPs of forward and backward of `tokens` tokens in sequences of `sequence_len`, recomputation not counted.

        6 x matmul parameters + 6 x layers x q_size x sequence_len a token: the second term is the causal
        half of 12 x layers x q_size x sequence_len (Korthikanti et al. 2022, appendix A, halved for the mask).
        Llama-3.1-8B at 8,192 tokens: 5.15e10 a token.
        """
        attention = 6 * self.layers * self.q_size * sequence_len
        return float(tokens) * (6 * self.matmul_parameters + attention)
