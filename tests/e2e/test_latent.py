"""Latent attention (DeepSeek 2 and 3): against numpy, which projects every token's keys and values up as the paper writes it; as files of
both containers and GGUF's two forms; quantised; in pieces."""
import json, math, struct
import numpy as np
import pytest
from conftest import ingot, rel, typical, write_weights

IDS = [[3, 50, 101, 0, 17, 90, 4, 8, 44, 45, 99, 2, 1, 61, 77, 12, 30, 5, 6, 7], [7] * 12, [1]]
BASE = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, vocab_size=110, kv_lora_rank=24,
            q_lora_rank=20, qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=10, n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=16,
            n_shared_experts=2, first_k_dense_replace=1, n_group=4, topk_group=2, norm_topk_prob=True, routed_scaling_factor=2.5, rms_norm_eps=1e-6,
            rope_theta=10000.0, max_position_embeddings=256, attention_bias=False, tie_word_embeddings=False, hidden_act="silu", rope_interleave=True)
YARN = dict(type="yarn", factor=4.0, mscale=0.8, mscale_all_dim=0.8, original_max_position_embeddings=64)
KINDS = {
    "v3": dict(model_type="deepseek_v3"),
    "v3_yarn_halves": dict(model_type="deepseek_v3", rope_scaling=YARN, rope_interleave=False),
    "v2": dict(model_type="deepseek_v2", q_lora_rank=None, topk_method="greedy", norm_topk_prob=False, routed_scaling_factor=1.0),
    "v2_groups_bias": dict(model_type="deepseek_v2", topk_method="group_limited_greedy", attention_bias=True, norm_topk_prob=False, rope_scaling=YARN),
}


def draw(c):
    rng = np.random.default_rng(7)
    weight = lambda *shape: (rng.standard_normal(shape) / math.sqrt(shape[-1])).astype(np.float32)
    norm = lambda n: (1 + 0.2 * rng.standard_normal(n)).astype(np.float32)
    hidden, heads, key = c["hidden_size"], c["num_attention_heads"], c["qk_nope_head_dim"] + c["qk_rope_head_dim"]
    w = {"model.embed_tokens.weight": weight(c["vocab_size"], hidden), "model.norm.weight": norm(hidden), "lm_head.weight": 3 * weight(c["vocab_size"], hidden)}
    network = lambda p, n: {p + "gate_proj.weight": weight(n, hidden), p + "up_proj.weight": weight(n, hidden), p + "down_proj.weight": weight(hidden, n)}
    for i in range(c["num_hidden_layers"]):
        p, a = f"model.layers.{i}.", f"model.layers.{i}.self_attn."
        w |= {p + "input_layernorm.weight": norm(hidden), p + "post_attention_layernorm.weight": norm(hidden)}
        if c["q_lora_rank"]:
            w |= {a + "q_a_proj.weight": weight(c["q_lora_rank"], hidden), a + "q_a_layernorm.weight": norm(c["q_lora_rank"]),
                  a + "q_b_proj.weight": 2 * weight(heads * key, c["q_lora_rank"])}
        else:
            w[a + "q_proj.weight"] = 2 * weight(heads * key, hidden)
        w |= {a + "kv_a_proj_with_mqa.weight": weight(c["kv_lora_rank"] + c["qk_rope_head_dim"], hidden), a + "kv_a_layernorm.weight": norm(c["kv_lora_rank"]),
              a + "kv_b_proj.weight": 2 * weight(heads * (c["qk_nope_head_dim"] + c["v_head_dim"]), c["kv_lora_rank"]),
              a + "o_proj.weight": weight(hidden, heads * c["v_head_dim"])}
        if c["attention_bias"]:
            w |= {a + n + ".bias": 0.3 * weight(s) for n, s in (("q_a_proj", c["q_lora_rank"]), ("o_proj", hidden),
                                                               ("kv_a_proj_with_mqa", c["kv_lora_rank"] + c["qk_rope_head_dim"])) if s}
        if i < c["first_k_dense_replace"]:
            w |= network(p + "mlp.", c["intermediate_size"])
            continue
        w[p + "mlp.gate.weight"] = weight(c["n_routed_experts"], hidden)
        if c["model_type"] == "deepseek_v3":
            w[p + "mlp.gate.e_score_correction_bias"] = 0.3 * weight(c["n_routed_experts"])
        for e in range(c["n_routed_experts"]):
            w |= network(f"{p}mlp.experts.{e}.", c["moe_intermediate_size"])
        w |= network(p + "mlp.shared_experts.", c["n_shared_experts"] * c["moe_intermediate_size"])
    return w


def write(folder, kind, **what):
    c = BASE | KINDS[kind] | what
    folder.mkdir()
    w = draw(c)
    write_weights(folder, w)
    (folder / "config.json").write_text(json.dumps(c))
    return folder, c, w


# ---- numpy ----

def frequencies(c):
    dims, theta, scaling = c["qk_rope_head_dim"], c["rope_theta"], c.get("rope_scaling")
    f = theta ** -(np.arange(0, dims, 2) / dims)
    if not scaling:
        return f, 1.0
    at = lambda turns: dims * math.log(scaling["original_max_position_embeddings"] / (turns * 2 * math.pi)) / (2 * math.log(theta))
    low, high = max(math.floor(at(32)), 0), min(math.ceil(at(1)), dims - 1)
    ramp = np.clip((np.arange(dims // 2) - low) / (high - low or 0.001), 0, 1)
    m = 0.1 * scaling["mscale_all_dim"] * math.log(scaling["factor"]) + 1
    return f / scaling["factor"] * ramp + f * (1 - ramp), m * m


def turn(x, f, neighbours):
    angle = np.arange(x.shape[0])[:, None, None] * f
    a, b = (x[..., 0::2], x[..., 1::2]) if neighbours else np.split(x, 2, -1)
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)


def rms(x, weight, c):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + c["rms_norm_eps"]) * weight


def network(x, w, p):
    gate = x @ w[p + "gate_proj.weight"].T
    return gate / (1 + np.exp(-gate)) * (x @ w[p + "up_proj.weight"].T) @ w[p + "down_proj.weight"].T


def mixture(x, c, w, p):
    scores, v3 = x @ w[p + "gate.weight"].T, c["model_type"] == "deepseek_v3"
    share = 1 / (1 + np.exp(-scores)) if v3 else np.exp(scores - scores.max(-1, keepdims=True))
    share = share if v3 else share / share.sum(-1, keepdims=True)
    out = network(x, w, p + "shared_experts.")
    for t, s in enumerate(share):
        choice = s + w[p + "gate.e_score_correction_bias"] if v3 else s.copy()
        if v3 or c["topk_method"] == "group_limited_greedy":
            groups = np.sort(choice.reshape(c["n_group"], -1), -1)[:, -2 if v3 else -1:].sum(-1)
            choice.reshape(c["n_group"], -1)[np.argsort(-groups)[c["topk_group"]:]] = -np.inf
        chosen = np.argsort(-choice)[:c["num_experts_per_tok"]]
        weights = s[chosen] / (s[chosen].sum() if v3 and c["norm_topk_prob"] else 1) * c["routed_scaling_factor"]
        out[t] += sum(g * network(x[t:t + 1], w, f"{p}experts.{e}.")[0] for e, g in zip(chosen, weights))
    return out


def attention(x, c, w, a):
    n, heads, nope, rope, rank = x.shape[0], c["num_attention_heads"], c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["kv_lora_rank"]
    linear = lambda y, name: y @ w[a + name + ".weight"].T + w.get(a + name + ".bias", 0)
    f, stretch = frequencies(c)
    neighbours = c["model_type"] == "deepseek_v2" or c["rope_interleave"]
    q = linear(rms(linear(x, "q_a_proj"), w[a + "q_a_layernorm.weight"], c), "q_b_proj") if c["q_lora_rank"] else linear(x, "q_proj")
    q = q.reshape(n, heads, nope + rope)
    latent = linear(x, "kv_a_proj_with_mqa")
    kv = linear(rms(latent[:, :rank], w[a + "kv_a_layernorm.weight"], c), "kv_b_proj").reshape(n, heads, -1)
    k_rope = np.repeat(turn(latent[:, None, rank:], f, neighbours), heads, 1)
    q, k = np.concatenate([q[..., :nope], turn(q[..., nope:], f, neighbours)], -1), np.concatenate([kv[..., :nope], k_rope], -1)
    scores = np.einsum("thd,shd->hts", q, k) * stretch / math.sqrt(nope + rope) + np.triu(np.full((n, n), -np.inf), 1)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return linear(np.einsum("hts,shd->thd", p / p.sum(-1, keepdims=True), kv[..., nope:]).reshape(n, -1), "o_proj")


def by_numpy(c, w):
    w, rows = {k: v.astype(np.float64) for k, v in w.items()}, []
    for ids in IDS:
        x = w["model.embed_tokens.weight"][ids]
        for i in range(c["num_hidden_layers"]):
            p = f"model.layers.{i}."
            x = x + attention(rms(x, w[p + "input_layernorm.weight"], c), c, w, p + "self_attn.")
            y = rms(x, w[p + "post_attention_layernorm.weight"], c)
            x = x + (network(y, w, p + "mlp.") if i < c["first_k_dense_replace"] else mixture(y, c, w, p + "mlp."))
        rows.append(rms(x, w["model.norm.weight"], c) @ w["lm_head.weight"].T)
    return np.concatenate(rows)


# ---- the program ----

def logits(model, tmp_path, *options, env=None):
    (tmp_path / "ids.json").write_text(json.dumps(IDS))
    r = ingot("logits", model, "--tokens", tmp_path / "ids.json", "--out", tmp_path / "out.npy", *options, env=env)
    assert r.returncode == 0, r.stderr
    return np.load(tmp_path / "out.npy")


@pytest.mark.parametrize("kind", KINDS)
def test_numbers(kind, tmp_path):
    model, c, w = write(tmp_path / "model", kind)
    expected = by_numpy(c, w)
    assert rel(logits(model, tmp_path, "--reference"), expected) < 2e-6
    assert rel(logits(model, tmp_path, "--kv", "f32"), expected) < 1e-5
    for options in ((), ("--chunk", 3), ("--deterministic",)):
        assert rel(logits(model, tmp_path, *options), expected) < 2e-2, options
    plain, c, w = write(tmp_path / "plain", kind, first_k_dense_replace=c["num_hidden_layers"])  # no experts whose choice rounding could turn
    assert rel(logits(plain, tmp_path, "--kv", "q8_0"), by_numpy(c, w)) < 5e-2


def rewrite_apart(source, target, c):
    """A GGUF file with K_up turned over and V_up as stacks of their own, as newer files have them."""
    data = source.read_bytes()
    tensors, metas = struct.unpack_from("<QQ", data, 8)
    at, keys, items = 24, b"", []
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def text(at):
        n, = struct.unpack_from("<Q", data, at)
        return data[at + 8:at + 8 + n].decode(), at + 8 + n

    def skip(kind, at):
        if kind == 8:
            return text(at)[1]
        if kind != 9:
            return at + sizes[kind]
        inner, n = struct.unpack_from("<IQ", data, at)
        at += 12
        for _ in range(n):
            at = skip(inner, at)
        return at

    for _ in range(metas):
        begin = at
        name, at = text(at)
        kind, = struct.unpack_from("<I", data, at)
        at = skip(kind, at + 4)
        if name.endswith((".key_length", ".value_length", ".head_count_kv")):
            metas -= 1
        else:
            keys += data[begin:at]
    for _ in range(tensors):
        name, at = text(at)
        dims, = struct.unpack_from("<I", data, at)
        shape = struct.unpack_from(f"<{dims}Q", data, at + 4)
        kind, offset = struct.unpack_from("<IQ", data, at + 4 + 8 * dims)
        at += 16 + 8 * dims
        assert kind == 0  # F32
        items.append((name, shape, offset))
    begin = (at + 31) // 32 * 32
    out = []
    heads, nope, v, rank, rope = (c[k] for k in ("num_attention_heads", "qk_nope_head_dim", "v_head_dim", "kv_lora_rank", "qk_rope_head_dim"))
    for name, shape, offset in items:
        x = np.frombuffer(data, np.float32, int(np.prod(shape)), begin + offset).reshape(shape[::-1])
        if "attn_kv_b" in name:
            both = x.reshape(heads, nope + v, rank)
            out += [(name.replace("kv_b", "k_b"), both[:, :nope].transpose(0, 2, 1).copy()), (name.replace("kv_b", "v_b"), both[:, nope:].copy())]
        else:
            out.append((name, x))
    number = lambda key, value: struct.pack("<Q", len(key)) + key.encode() + struct.pack("<II", 4, value)
    for key, value in (("head_count_kv", 1), ("key_length", rank + rope), ("value_length", rank), ("key_length_mla", nope + rope), ("value_length_mla", v)):
        keys, metas = keys + number("deepseek2.attention." + key, value), metas + 1
    infos, blob = b"", b""
    for name, x in out:
        infos += struct.pack("<Q", len(name)) + name.encode() + struct.pack(f"<I{x.ndim}QIQ", x.ndim, *x.shape[::-1], 0, len(blob))
        blob += x.tobytes() + bytes(-x.nbytes % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(out), metas) + keys + infos
    target.write_bytes(head + bytes(-len(head) % 32) + blob)
    return target


@pytest.mark.parametrize("kind", ["v3", "v2", "v2_groups_bias"])
def test_gguf_has_the_same_numbers(kind, tmp_path):
    model, c, w = write(tmp_path / "model", kind)
    r = ingot("convert", model, tmp_path / "m.gguf")
    assert r.returncode == 0, r.stderr
    expected = logits(model, tmp_path, "--reference")
    assert rel(logits(tmp_path / "m.gguf", tmp_path, "--reference"), expected) < 2e-6
    assert rel(logits(rewrite_apart(tmp_path / "m.gguf", tmp_path / "apart.gguf", c), tmp_path, "--reference"), expected) < 2e-6
    assert rel(logits(tmp_path / "apart.gguf", tmp_path), expected) < 2e-2


WIDE = dict(hidden_size=64, kv_lora_rank=32, q_lora_rank=32, moe_intermediate_size=32, intermediate_size=96, v_head_dim=16, qk_nope_head_dim=16)


def test_quantised(tmp_path):
    """By convert, and while opening; keys' up-projections turned over from blocks, too."""
    model, c, w = write(tmp_path / "model", "v3", **WIDE)
    expected = logits(model, tmp_path, "--reference")
    r = ingot("convert", model, tmp_path / "m.gguf", "--type", "q8_0")
    assert r.returncode == 0, r.stderr
    assert typical(logits(tmp_path / "m.gguf", tmp_path, "--reference"), expected) < 5e-2
    assert typical(logits(tmp_path / "m.gguf", tmp_path), expected) < 8e-2
    home = {"INGOT_HOME": str(tmp_path / "home")}
    assert typical(logits(model, tmp_path, "--quantize", "q8_0", "--reference", env=home), expected) < 5e-2


def test_a_plan_counts_one_key_for_all_heads(tmp_path):
    model, c, w = write(tmp_path / "model", "v3")
    plan = json.loads(ingot("plan", model, "--json", "--context", 64, "--kv", "f32").stdout)
    assert plan["kv_bytes_per_token"] <= 2 * 4 * (((24 + 8) + 15) // 16 * 16), plan


def test_what_does_not_fit_is_named(tmp_path):
    model, c, w = write(tmp_path / "model", "v3")
    for change, words in ((dict(kv_lora_rank=23), "kv_a_proj_with_mqa.weight has shape [32, 48] where [31, 48]"), (dict(qk_rope_head_dim=7), "pairs need an even number"),
                          (dict(v_head_dim=None), "v_head_dim"), (dict(n_group=3), "n_group is 3 and topk_group 2"), (dict(topk_group=5), "topk_group 5"),
                          (dict(num_experts_per_tok=7), "7 chosen ones"), (dict(q_lora_rank=None), "q_proj.weight is missing"),
                          (dict(model_type="deepseek_v2", topk_method="noaux_tc"), "topk_method is noaux_tc")):
        (model / "config.json").write_text(json.dumps(c | change))
        r = ingot("plan", model)
        assert r.returncode == 4 and words in r.stderr, (change, r.stderr)


@pytest.mark.parametrize("devices", [("--device", "cuda"), ("--device", "cuda", "--chunk", 1), ("--device", "cuda", "--chunk", 17), ("--device", "cuda:0,0"),
                                     ("--cpu-ffn", 1), ("--gpu-layers", 1)])
@pytest.mark.parametrize("kind", ["v3", "v2_groups_bias"])
def test_on_a_card(kind, devices, card, tmp_path):
    """The whole, in pieces, over two ranks (which have these projections whole), parts on the CPU. Floats: the choices are the reference's."""
    model, c, w = write(tmp_path / "model", kind)
    (card.folder / "latent.json").write_text(json.dumps(IDS))
    rows = []
    for options in (("--reference",), ("--kv", "f32", *devices)):
        card("logits", model, "--tokens", "latent.json", "--out", "latent.npy", *options)
        rows.append(np.load(card.folder / "latent.npy"))
    assert rel(rows[1], rows[0]) < 1e-5
    plan = json.loads(card("plan", model, "--device", "cuda", "--json").stdout)
    assert not plan.get("fallbacks"), plan["fallbacks"]


@pytest.mark.parametrize("kernel", ["join", "experts"])
def test_what_a_card_lacks(kernel, card, tmp_path):
    model, c, w = write(tmp_path / "model", "v3")
    expected = card.logits(model, "--reference")
    got = card.logits(model, "--kv", "f32", "--device", "cuda", env={"INGOT_EMULATED_WITHOUT": kernel})
    assert rel(got, expected) < 1e-5


def test_quantised_on_a_card(card, tmp_path):
    """By matrix units, with a cache of two bytes a value."""
    model, c, w = write(tmp_path / "model", "v3", **WIDE)
    card("convert", model, tmp_path / "m.gguf", "--type", "q8_0")
    expected = card.logits(tmp_path / "m.gguf", "--reference")
    for devices in (("cuda",), ("cuda", "--chunk", 1), ("cuda:0,0",)):
        assert typical(card.logits(tmp_path / "m.gguf", "--device", *devices), expected) < 8e-2, devices
