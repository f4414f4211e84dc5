#!/usr/bin/env python3
"""Writes tests/golden/expected.h: logits of tiny models, computed here in float64 with numpy and nothing of ingot.

The weights are not stored: tests/tiny_model.h draws the same ones from the same seeds (SplitMix64, float32 values). Run after
changing a model below:  python3 tests/golden/make_expected.py
With transformers and torch installed, --check compares with them (float64, eager attention) as well."""
import argparse, math, os, sys
import numpy as np

# name, config: what differs from BASE. Kept equal to tests/tiny_model.h's table.
BASE = dict(hidden=48, inter=80, layers=2, heads=4, kv=2, head_dim=12, vocab=300, tied=True, bias=False, mlp_bias=False, act="silu",
            window=0, full_layers=0, theta=10000.0, rope=None, eps=1e-5, positions=64, block=None, experts=0, chosen=0, width=0, shared=0,
            normalised=True, qk_norm=False, output_bias=True, plain_layers=0, stacked=False, kind=None)
MODELS = {
    "plain": {},
    "llama3": dict(rope=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)),
    "bias": dict(tied=False, bias=True, mlp_bias=True, act="gelu", kv=4, head_dim=16),
    "linear": dict(rope=dict(rope_type="linear", factor=2.5)),
    "dynamic": dict(positions=16, rope=dict(rope_type="dynamic", factor=4.0)),
    "yarn": dict(rope=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64), kv=1),
    "window": dict(window=7),
    "mixtral": dict(kind="mixtral", tied=False, inter=32, block="block_sparse_moe", experts=5, chosen=2, width=32),
    "qwen2_moe": dict(kind="qwen2_moe", tied=False, bias=True, output_bias=False, window=7, full_layers=1, block="mlp", experts=6, chosen=3, width=24,
                      shared=40, normalised=False),
    "qwen3_moe": dict(kind="qwen3_moe", block="mlp", experts=8, chosen=2, width=24, qk_norm=True, plain_layers=1, stacked=True),
}
TOKENS = [(i * 37 + 11) % 300 for i in range(40)]
ROWS = (0, 7, 39)          # rows whose logits are kept
KEPT = 12                  # of each: the first values


def splitmix(seed):
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) & (2**64 - 1)
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        yield z ^ (z >> 31)


def draw(seed, count, scale, base):
    g = splitmix(seed)
    return np.array([np.float32(base + scale * ((next(g) >> 40) / float(1 << 24) * 2 - 1)) for _ in range(count)], np.float32)


def expert_tensors(c, p):
    h, w, b, names = c["hidden"], c["width"], p + c["block"], ("w1", "w3", "w2") if c["block"] != "mlp" else ("gate_proj", "up_proj", "down_proj")
    shapes = lambda inner: ((inner, h), (inner, h), (h, inner))
    out = [(b + ".gate.weight", (c["experts"], h), 1.0, 0)]
    if c["stacked"]:
        out += [(b + ".experts.gate_up_proj", (c["experts"], 2 * w, h), 0.3, 0), (b + ".experts.down_proj", (c["experts"], h, w), 0.3, 0)]
    else:
        out += [(f"{b}.experts.{e}.{n}.weight", s, 0.3, 0) for e in range(c["experts"]) for n, s in zip(names, shapes(w))]
    if c["shared"]:
        out += [(p + "mlp.shared_expert_gate.weight", (1, h), 1.0, 0)]
        out += [(f"{p}mlp.shared_expert.{n}.weight", s, 0.3, 0) for n, s in zip(names, shapes(c["shared"]))]
    return out


def tensors(c):
    """(name, shape, scale, base) in the order of their seeds."""
    q, kv = c["heads"] * c["head_dim"], c["kv"] * c["head_dim"]
    out = [("model.embed_tokens.weight", (c["vocab"], c["hidden"]), 1.0, 0)]
    for i in range(c["layers"]):
        p = f"model.layers.{i}."
        out += [(p + "input_layernorm.weight", (c["hidden"],), 0.3, 1),
                (p + "self_attn.q_proj.weight", (q, c["hidden"]), 0.4, 0), (p + "self_attn.k_proj.weight", (kv, c["hidden"]), 0.4, 0),
                (p + "self_attn.v_proj.weight", (kv, c["hidden"]), 0.3, 0), (p + "self_attn.o_proj.weight", (c["hidden"], q), 0.3, 0)]
        if c["bias"]:
            out += [(p + f"self_attn.{n}_proj.bias", (s,), 0.5, 0) for n, s in (("q", q), ("k", kv), ("v", kv), ("o", c["hidden"])) if n != "o" or c["output_bias"]]
        if c["qk_norm"]:
            out += [(p + f"self_attn.{n}_norm.weight", (c["head_dim"],), 0.3, 1) for n in "qk"]
        out += [(p + "post_attention_layernorm.weight", (c["hidden"],), 0.3, 1)]
        if c["block"] and i >= c["plain_layers"]:
            out += expert_tensors(c, p)
            continue
        out += [(p + "mlp.gate_proj.weight", (c["inter"], c["hidden"]), 0.3, 0), (p + "mlp.up_proj.weight", (c["inter"], c["hidden"]), 0.3, 0),
                (p + "mlp.down_proj.weight", (c["hidden"], c["inter"]), 0.3, 0)]
        if c["mlp_bias"]:
            out += [(p + f"mlp.{n}_proj.bias", (s,), 0.5, 0) for n, s in (("gate", c["inter"]), ("up", c["inter"]), ("down", c["hidden"]))]
    out.append(("model.norm.weight", (c["hidden"],), 0.3, 1))
    if not c["tied"]:
        out.append(("lm_head.weight", (c["vocab"], c["hidden"]), 0.4, 0))
    return out


def weights(c):
    return {n: draw(1000 + i, int(np.prod(s)), scale, base).reshape(s) for i, (n, s, scale, base) in enumerate(tensors(c))}


def frequencies(c, length):
    d, r = c["head_dim"], c["rope"] or {}
    kind, theta, factor = r.get("rope_type", "default"), c["theta"], r.get("factor", 1.0)
    if kind == "dynamic":
        n = max(length, c["positions"])
        theta = theta * ((factor * n / c["positions"]) - (factor - 1)) ** (d / (d - 2))
    f = 1.0 / theta ** (np.arange(0, d, 2) / d)
    magnitude = 1.0
    if kind == "linear":
        f = f / factor
    if kind == "llama3":
        low, high, old = r["low_freq_factor"], r["high_freq_factor"], r["original_max_position_embeddings"]
        wave = 2 * math.pi / f
        smooth = (old / wave - low) / (high - low)
        f = np.where(wave > old / low, f / factor, np.where(wave < old / high, f, (1 - smooth) * f / factor + smooth * f))
    if kind == "yarn":
        old = r["original_max_position_embeddings"]
        at = lambda turns: d * math.log(old / (turns * 2 * math.pi)) / (2 * math.log(theta))
        low, high = max(math.floor(at(32)), 0), min(math.ceil(at(1)), d - 1)
        ramp = np.clip((np.arange(d // 2) - low) / (max(high - low, 0.001)), 0, 1)
        f = f / factor * ramp + f * (1 - ramp)
        magnitude = 0.1 * math.log(factor) + 1
    return f, magnitude


def experts(c, w, p, h, act):
    b, names = p + c["block"], ("w1", "w3", "w2") if c["block"] != "mlp" else ("gate_proj", "up_proj", "down_proj")
    scores = h @ w[b + ".gate.weight"].T
    probability = np.exp(scores - scores.max(-1, keepdims=True))
    probability /= probability.sum(-1, keepdims=True)
    chosen = np.argsort(-probability, -1, kind="stable")[:, :c["chosen"]]
    gated = lambda x, g, u, d: d @ (act(g @ x) * (u @ x))
    y = np.zeros_like(h)
    for row, ids in enumerate(chosen):
        for e in ids:
            weight = probability[row, e] / (probability[row, ids].sum() if c["normalised"] else 1)
            if c["stacked"]:
                both = w[b + ".experts.gate_up_proj"][e]
                m = both[:c["width"]], both[c["width"]:], w[b + ".experts.down_proj"][e]
            else:
                m = [w[f"{b}.experts.{e}.{name}.weight"] for name in names]
            y[row] += weight * gated(h[row], *m)
        if c["shared"]:
            m = [w[f"{p}mlp.shared_expert.{name}.weight"] for name in names]
            y[row] += gated(h[row], *m) / (1 + np.exp(-(w[p + "mlp.shared_expert_gate.weight"][0] @ h[row])))
    return y


def forward(c, w, ids):
    w = {k: v.astype(np.float64) for k, v in w.items()}
    n, hd = len(ids), c["head_dim"]
    norm = lambda x, g: x / np.sqrt((x * x).mean(-1, keepdims=True) + c["eps"]) * g
    f, magnitude = frequencies(c, n)
    angle = np.arange(n)[:, None] * f[None, :]
    cos, sin = np.cos(angle) * magnitude, np.sin(angle) * magnitude

    def turn(x):                                    # [n, heads, hd]
        a, b = x[..., :hd // 2], x[..., hd // 2:]
        return np.concatenate([a * cos[:, None] - b * sin[:, None], b * cos[:, None] + a * sin[:, None]], -1)

    def linear(x, p):
        y = x @ w[p + ".weight"].T
        return y + w[p + ".bias"] if p + ".bias" in w else y

    act = {"silu": lambda x: x / (1 + np.exp(-x)), "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))}[c["act"]]
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    x = w["model.embed_tokens.weight"][ids]
    for l in range(c["layers"]):
        p = f"model.layers.{l}."
        mask = (j <= i) & ((j > i - c["window"]) if c["window"] and l >= c["full_layers"] else True)
        heads_norm = lambda x, g: norm(x, w[g]) if c["qk_norm"] else x
        h = norm(x, w[p + "input_layernorm.weight"])
        q = turn(heads_norm(linear(h, p + "self_attn.q_proj").reshape(n, c["heads"], hd), p + "self_attn.q_norm.weight"))
        k = turn(heads_norm(linear(h, p + "self_attn.k_proj").reshape(n, c["kv"], hd), p + "self_attn.k_norm.weight"))
        v = linear(h, p + "self_attn.v_proj").reshape(n, c["kv"], hd)
        y = np.zeros((n, c["heads"], hd))
        for a in range(c["heads"]):
            g = a // (c["heads"] // c["kv"])
            s = np.where(mask, q[:, a] @ k[:, g].T / math.sqrt(hd), -np.inf)
            s = np.exp(s - s.max(-1, keepdims=True))
            y[:, a] = s / s.sum(-1, keepdims=True) @ v[:, g]
        x = x + linear(y.reshape(n, -1), p + "self_attn.o_proj")
        h = norm(x, w[p + "post_attention_layernorm.weight"])
        if c["block"] and l >= c["plain_layers"]:
            x = x + experts(c, w, p, h, act)
        else:
            x = x + linear(act(linear(h, p + "mlp.gate_proj")) * linear(h, p + "mlp.up_proj"), p + "mlp.down_proj")
    x = norm(x, w["model.norm.weight"])
    return x @ w["model.embed_tokens.weight" if c["tied"] else "lm_head.weight"].T


def check(name, c, w, logits):
    import torch, transformers
    if c["block"]:
        return print(f"{name}: not compared, the weights have other names there")
    kind = transformers.MistralConfig if c["window"] else transformers.LlamaConfig
    more = dict(sliding_window=c["window"]) if c["window"] else dict(attention_bias=c["bias"], mlp_bias=c["mlp_bias"])
    config = kind(vocab_size=c["vocab"], hidden_size=c["hidden"], intermediate_size=c["inter"], num_hidden_layers=c["layers"],
                  num_attention_heads=c["heads"], num_key_value_heads=c["kv"], head_dim=c["head_dim"], rms_norm_eps=c["eps"], hidden_act=c["act"],
                  max_position_embeddings=c["positions"], tie_word_embeddings=c["tied"],
                  rope_parameters=dict(c["rope"] or dict(rope_type="default"), rope_theta=c["theta"]), **more)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").double().eval()
    state = {k: torch.tensor(v.astype(np.float64)) for k, v in w.items()}
    if c["tied"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        theirs = model(torch.tensor([TOKENS])).logits[0].numpy()
    print(f"{name}: differs from transformers by {np.linalg.norm(theirs - logits) / np.linalg.norm(theirs):.1e}")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--check", action="store_true")
    args = ap.parse_args()
    lines = ["/* Made by tests/golden/make_expected.py: float64 logits of tests/tiny_model.h's models. Rows " + ", ".join(map(str, ROWS)) +
             f" of 40 tokens,\n * the first {KEPT} values, then the best token and the row's norm. */",
             f"enum {{ EXPECTED_ROWS = {len(ROWS)}, EXPECTED_KEPT = {KEPT} }};", f"static const int expected_rows[] = {{{', '.join(map(str, ROWS))}}};",
             "static const struct expected {\n    const char *model;\n    double values[EXPECTED_ROWS][EXPECTED_KEPT], norm[EXPECTED_ROWS];\n    int best[EXPECTED_ROWS];\n} expected[] = {"]
    for name, change in MODELS.items():
        c = BASE | change
        w = weights(c)
        logits = forward(c, w, np.array(TOKENS))
        if args.check:
            check(name, c, w, logits)
        rows = logits[list(ROWS)]
        values = ",\n      ".join("{" + ", ".join(f"{v:.9g}" for v in r[:KEPT]) + "}" for r in rows)
        lines.append(f'    {{"{name}",\n     {{{values}}},\n     {{{", ".join(f"{np.linalg.norm(r):.9g}" for r in rows)}}},\n     {{{", ".join(str(int(r.argmax())) for r in rows)}}}}},')
    lines.append("};")
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "expected.h")
    open(path, "w").write("\n".join(lines) + "\n")
    print(path)


if __name__ == "__main__":
    sys.exit(main())
