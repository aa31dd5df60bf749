from cpadvisor.model import ModelSpec

LLAMA_8B = ModelSpec(
    name="llama-3.1-8b",
    family="llama",
    hidden_size=4096,
    intermediate_size=14_336,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    vocab_size=128_256,
    tied_embeddings=False,
    max_positions=131_072,
    rope_theta=500_000.0,
)


def test_the_parts_of_llama_8b_add_up_to_the_published_count():
    # 2 x 4096 x 4096 + 2 x 4096 x 1024 + 3 x 4096 x 14336 + 2 x 4096
    assert LLAMA_8B.layer_parameters == 218_112_000
    assert LLAMA_8B.embedding_parameters == 525_336_576
    assert LLAMA_8B.parameters == 8_030_261_248


def test_the_work_of_a_token_grows_with_the_length_of_its_sequence_by_the_causal_half():
    # 6 x (8,030,261,248 - 525,336,576) + 6 x 32 x 4096 x 8192
    per_token = LLAMA_8B.train_flops(tokens=1, sequence_len=8192)
    assert per_token == 6 * 7_504_924_672 + 6 * 32 * 4096 * 8192
    assert 5.14e10 < per_token < 5.16e10


def test_the_work_is_proportional_to_the_tokens():
    one = LLAMA_8B.train_flops(tokens=1000, sequence_len=4096)
    assert LLAMA_8B.train_flops(tokens=3000, sequence_len=4096) == 3 * one
