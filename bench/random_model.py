#!/usr/bin/env python3
"""Writes a Llama of random bfloat16 weights, to measure speed where nothing can be downloaded: needs Python alone.

    bench/random_model.py FOLDER [llama-1b|llama-8b|small|tiny]      2.1 GB, 16 GB, next to nothing; --layers N: fewer

Its words mean nothing; shapes and names are those of a checkpoint in Hugging Face layout."""
import argparse, json, os, random

SHAPES = {  # hidden, ffn, layers, heads, kv heads, vocab
    "tiny": (64, 128, 2, 4, 2, 256),
    "small": (256, 512, 2, 4, 2, 512),
    "llama-1b": (2048, 8192, 16, 32, 8, 128256),
    "llama-8b": (4096, 14336, 32, 32, 8, 128256),
}
PIECE = 1 << 20


def tensors(hidden, ffn, layers, heads, kv_heads, vocab):
    kv = hidden // heads * kv_heads
    yield "model.embed_tokens.weight", [vocab, hidden]
    for i in range(layers):
        p = f"model.layers.{i}."
        for name, shape in {"self_attn.q_proj": [hidden, hidden], "self_attn.k_proj": [kv, hidden], "self_attn.v_proj": [kv, hidden],
                            "self_attn.o_proj": [hidden, hidden], "mlp.gate_proj": [ffn, hidden], "mlp.up_proj": [ffn, hidden],
                            "mlp.down_proj": [hidden, ffn], "input_layernorm": [hidden], "post_attention_layernorm": [hidden]}.items():
            yield f"{p}{name}.weight", shape
    yield "model.norm.weight", [hidden]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("shape", nargs="?", default="llama-1b", choices=SHAPES)
    parser.add_argument("--layers", type=int)
    args = parser.parse_args()
    hidden, ffn, layers, heads, kv_heads, vocab = SHAPES[args.shape]
    layers = args.layers or layers
    os.makedirs(args.folder, exist_ok=True)
    with open(os.path.join(args.folder, "config.json"), "w") as f:
        json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers,
                   "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocab, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
                   "max_position_embeddings": 8192, "hidden_act": "silu", "tie_word_embeddings": True, "torch_dtype": "bfloat16"}, f)
    header, at = {}, 0
    for name, shape in tensors(hidden, ffn, layers, heads, kv_heads, vocab):
        size = 2 * (shape[0] * shape[1] if len(shape) > 1 else shape[0])
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = bytearray(random.Random(1).randbytes(2 * PIECE))
    noise[1::2] = bytes(0x3C | b & 0x80 for b in noise[1::2])  # 0.008 to 0.03, either sign
    with open(os.path.join(args.folder, "model.safetensors"), "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for begin, i in zip(range(0, at, PIECE), range(at)):
            start = i * 4994 % PIECE // 2 * 2  # pieces differ
            f.write(memoryview(noise)[start:start + min(PIECE, at - begin)])


main()
