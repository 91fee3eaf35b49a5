"""A GGUF file that a real engine loads: random weights, bytes as vocabulary, made in milliseconds.

Its text is nonsense, but printable: hidden dimension 0 is nearly constant, so the output row of a token holds a bias there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

_WIDTH = 64
_LAYERS = 2
_HEADS = 4
_FEED_FORWARD = 128
_SPECIAL = 3
_VOCABULARY = _SPECIAL + 256
_CONTEXT = 16384
_TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant: "


def write_tiny_model(path: Path, *, seed: int = 7) -> Path:
    """One file, the same bytes for the same seed, under 0.5 MB. About one token in a hundred is an end of text."""
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_vocab_size(_VOCABULARY)
    _add_tokens(writer)
    for name, tensor in _tensors(np.random.default_rng(seed)).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokens(writer: GGUFWriter) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))])
    writer.add_token_scores([0.0] * _VOCABULARY)
    writer.add_token_types([TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(_TEMPLATE)


def _tensors(random: np.random.Generator) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    def noise(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return random.normal(0.0, 0.05, shape).astype(np.float32)

    embedding = noise(_VOCABULARY, _WIDTH)
    embedding[:, 0] = 1.0
    output = noise(_VOCABULARY, _WIDTH)
    output[:, 0] = -4.0
    output[_SPECIAL + ord("a") : _SPECIAL + ord("z") + 1, 0] = 1.0
    output[_SPECIAL + ord(" "), 0] = 1.2
    output[2, 0] = 1.0
    tensors = {
        "token_embd.weight": embedding,
        "output.weight": output,
        "output_norm.weight": np.ones(_WIDTH, np.float32),
    }
    for layer in range(_LAYERS):
        block = f"blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"{block}{name}.weight"] = noise(_WIDTH, _WIDTH)
        for name in ("ffn_gate", "ffn_up"):
            tensors[f"{block}{name}.weight"] = noise(_FEED_FORWARD, _WIDTH)
        tensors[f"{block}ffn_down.weight"] = noise(_WIDTH, _FEED_FORWARD)
        for name in ("attn_norm", "ffn_norm"):
            tensors[f"{block}{name}.weight"] = np.ones(_WIDTH, np.float32)
    return tensors
