"""Models with recurrent layers (Mamba 2, Granite 4, Qwen 3 Next, Qwen 3.5, LFM2): both containers give the same numbers, GGUF as llama.cpp's
converter writes it; in pieces; quantised; conversations that go on and are forked. Their numbers are judged by golden.py."""
import json, math, struct
import numpy as np
import pytest
from conftest import ingot, write_weights, write_tiny

IDS = [[3, 50, 101, 0, 17, 90, 4, 8, 44, 45, 99, 2, 1, 61, 77, 12, 30, 5, 6, 7], [7] * 12, [1]]
H, LAYERS, HEADS, KV, DIM, VOCAB, WIDE = 48, 3, 4, 2, 12, 110, 40
S = dict(heads=6, groups=2, k=10, v=16)  # of a scan: 6 heads, 2 key heads
ATTENTION = dict(hidden_size=H, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV, vocab_size=VOCAB, max_position_embeddings=256)
DELTA = dict(linear_conv_kernel_dim=4, linear_key_head_dim=S["k"], linear_value_head_dim=S["v"], linear_num_key_heads=S["groups"], linear_num_value_heads=S["heads"],
             head_dim=DIM, intermediate_size=WIDE, rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5), rms_norm_eps=1e-6,
             layer_types=["linear_attention", "full_attention", "linear_attention"])
CONFIGS = {
    "mamba2": dict(model_type="mamba2", hidden_size=H, num_hidden_layers=LAYERS, vocab_size=VOCAB, num_heads=S["heads"], head_dim=S["v"], n_groups=S["groups"],
                   state_size=S["k"], expand=2, conv_kernel=4),
    "granite": ATTENTION | dict(model_type="granitemoehybrid", layer_types=["mamba", "attention", "mamba"], num_local_experts=4, num_experts_per_tok=2, intermediate_size=20,
                                shared_intermediate_size=36, mamba_n_heads=S["heads"], mamba_d_head="auto", mamba_n_groups=S["groups"], mamba_d_state=S["k"], mamba_expand=2,
                                mamba_d_conv=4, embedding_multiplier=3.0, attention_multiplier=0.2, residual_multiplier=0.5, logits_scaling=2.0, rms_norm_eps=1e-5,
                                position_embedding_type="nope"),
    "next": ATTENTION | DELTA | dict(model_type="qwen3_next", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=24),
    "q35": ATTENTION | DELTA | dict(model_type="qwen3_5_text"),
    "lfm2": ATTENTION | dict(model_type="lfm2", block_ff_dim=60, block_multiple_of=8, full_attn_idxs=[1], norm_eps=1e-5, rope_theta=10000.0, conv_L_cache=3),
}


def draw(kind):
    """name -> (GGUF's name, array in config.json's layout, what GGUF makes of it)"""
    rng = np.random.default_rng(3)
    weight = lambda *shape: (rng.standard_normal(shape) / math.sqrt(shape[-1])).astype(np.float32)
    near = lambda n, mean: (mean + 0.3 * rng.standard_normal(n)).astype(np.float32)
    same, squeeze, plus, column = lambda x: x, lambda x: x[:, 0], lambda x: x + 1, lambda x: x[:, None]
    heads, groups, k, v = S.values()
    inner, keys = heads * v, groups * k
    qwen, w = kind in ("next", "q35"), {}
    norm_gguf, mean = (plus, 0) if qwen else (same, 1)

    def tiles(x, size, axis=0):  # value heads of Qwen 3.5 as GGUF has them
        x = np.moveaxis(x, axis, 0)
        x = x.reshape(groups, heads // groups, size, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)
        return np.ascontiguousarray(np.moveaxis(x, 0, axis))

    base = "backbone." if kind == "mamba2" else "model."
    w[base + ("embeddings" if kind == "mamba2" else "embed_tokens") + ".weight"] = "token_embd.weight", weight(VOCAB, H) * 4, same
    w[base + {"mamba2": "norm_f", "lfm2": "embedding_norm"}.get(kind, "norm") + ".weight"] = ("token_embd_norm" if kind == "lfm2" else "output_norm") + ".weight", near(H, mean), norm_gguf
    if kind != "lfm2":
        w["lm_head.weight"] = "output.weight", 3 * weight(VOCAB, H), same
    for i in range(LAYERS):
        p, g = f"{base}layers.{i}.", f"blk.{i}."
        attends = i == 1 and kind != "mamba2"
        w[p + {"mamba2": "norm", "lfm2": "operator_norm"}.get(kind, "input_layernorm") + ".weight"] = g + "attn_norm.weight", near(H, mean), norm_gguf
        if attends:
            a, out = p + "self_attn.", "out_proj" if kind == "lfm2" else "o_proj"
            for n, rows in ("q", HEADS * DIM * (2 if qwen else 1)), ("k", KV * DIM), ("v", KV * DIM):
                turned = (lambda x: x.reshape(-1, 2, DIM // 2, H).swapaxes(1, 2).reshape(x.shape).copy()) if kind == "granite" and n != "v" else same
                w[a + n + "_proj.weight"] = f"{g}attn_{n}.weight", 2 * weight(rows, H), turned
            w[a + out + ".weight"] = g + "attn_output.weight", weight(H, HEADS * DIM), same
            if kind != "granite":
                for n in "qk":
                    w[a + n + ("_layernorm" if kind == "lfm2" else "_norm") + ".weight"] = f"{g}attn_{n}_norm.weight", near(DIM, mean), norm_gguf
        elif kind == "lfm2":
            w[p + "conv.in_proj.weight"] = g + "shortconv.in_proj.weight", 2 * weight(3 * H, H), same
            w[p + "conv.conv.weight"] = g + "shortconv.conv.weight", weight(H, 1, 3), squeeze
            w[p + "conv.out_proj.weight"] = g + "shortconv.out_proj.weight", weight(H, H), same
        else:
            m, mix = p + {"mamba2": "mixer.", "granite": "mamba."}.get(kind, "linear_attn."), inner + 2 * keys
            tiled = tiles if kind == "q35" else lambda x, size, axis=0: x
            values = lambda x: np.concatenate((x[:2 * keys], tiled(x[2 * keys:], v)))
            w[m + "conv1d.weight"] = g + "ssm_conv1d.weight", 2 * weight(mix, 1, 4), (lambda x: values(x[:, 0])) if qwen else squeeze
            w[m + "dt_bias"] = g + "ssm_dt.bias", near(heads, -1), lambda x: tiled(x, 1)
            minus = lambda x: -np.exp(x)
            w[m + "A_log"] = g + "ssm_a", near(heads, 0), (lambda x: tiled(minus(x), 1)) if qwen else lambda x: column(minus(x))
            w[m + "norm.weight"] = g + "ssm_norm.weight", near(v if qwen else inner, 1), same if qwen else lambda x: x.reshape(groups, -1)
            w[m + "out_proj.weight"] = g + "ssm_out.weight", weight(H, inner), lambda x: tiled(x, v, 1)
            if qwen:
                r, qkvz, ba = heads // groups, weight(groups, 2 * k + 2 * heads // groups * v, H), weight(groups, 2 * heads // groups, H)
                q_, k_, v_, z_ = np.split(qkvz, [k, 2 * k, 2 * k + r * v], 1)
                qkv, z = np.concatenate([x.reshape(-1, H) for x in (q_, k_, v_)]), z_.reshape(-1, H).copy()
                b, a = (x.reshape(-1, H).copy() for x in np.split(ba, 2, 1))
                if kind == "next":
                    w[m + "in_proj_qkvz.weight"] = g + "attn_qkv.weight", qkvz.reshape(-1, H), lambda x, qkv=qkv: qkv
                    w["+" + m] = g + "attn_gate.weight", z, same
                    w[m + "in_proj_ba.weight"] = g + "ssm_ba.weight", ba.reshape(-1, H), same
                else:
                    w[m + "in_proj_qkv.weight"] = g + "attn_qkv.weight", qkv, values
                    w[m + "in_proj_z.weight"] = g + "attn_gate.weight", z, lambda x: tiled(x, v)
                    w[m + "in_proj_b.weight"] = g + "ssm_beta.weight", b, lambda x: tiled(x, 1)
                    w[m + "in_proj_a.weight"] = g + "ssm_alpha.weight", a, lambda x: tiled(x, 1)
            else:
                w[m + "in_proj.weight"] = g + "ssm_in.weight", 2 * weight(inner + mix + heads, H), same
                w[m + "conv1d.bias"] = g + "ssm_conv1d.bias", near(mix, 0), same
                w[m + "D"] = g + "ssm_d", near(heads, 1), column
        if kind == "mamba2":
            continue
        w[p + ("ffn_norm" if kind == "lfm2" else "post_attention_layernorm") + ".weight"] = g + ("post_attention_norm" if qwen else "ffn_norm") + ".weight", near(H, mean), norm_gguf
        if kind == "granite":
            w[p + "block_sparse_moe.router.layer.weight"] = g + "ffn_gate_inp.weight", 2 * weight(4, H), same
            both, shared = weight(4, 40, H), weight(72, H)
            w[p + "block_sparse_moe.input_linear.weight"] = g + "ffn_gate_exps.weight", both, lambda x: x[:, :20].copy()
            w["+up" + p] = g + "ffn_up_exps.weight", both[:, 20:].copy(), same
            w[p + "block_sparse_moe.output_linear.weight"] = g + "ffn_down_exps.weight", weight(4, H, 20), same
            w[p + "shared_mlp.input_linear.weight"] = g + "ffn_gate_shexp.weight", shared, lambda x: x[:36].copy()
            w["+shared" + p] = g + "ffn_up_shexp.weight", shared[36:].copy(), same
            w[p + "shared_mlp.output_linear.weight"] = g + "ffn_down_shexp.weight", weight(H, 36), same
        elif kind == "next":
            w[p + "mlp.gate.weight"] = g + "ffn_gate_inp.weight", 2 * weight(4, H), same
            w[p + "mlp.shared_expert_gate.weight"] = g + "ffn_gate_inp_shexp.weight", weight(1, H), lambda x: x[0]
            for n, out, into in ("gate", 16, H), ("up", 16, H), ("down", H, 16):
                experts = weight(4, out, into)
                for e in range(4):
                    w[f"{p}mlp.experts.{e}.{n}_proj.weight"] = (f"{g}ffn_{n}_exps.weight", experts[e], lambda x, experts=experts: experts) if e == 0 else (None, experts[e], same)
                w[f"{p}mlp.shared_expert.{n}_proj.weight"] = f"{g}ffn_{n}_shexp.weight", weight(*((24, H) if n != "down" else (H, 24))), same
        else:
            names = dict(gate="feed_forward.w1", up="feed_forward.w3", down="feed_forward.w2") if kind == "lfm2" else {n: f"mlp.{n}_proj" for n in ("gate", "up", "down")}
            for n in names:
                w[p + names[n] + ".weight"] = f"{g}ffn_{n}.weight", weight(*((WIDE, H) if n != "down" else (H, WIDE))), same
    return w


def write_gguf(path, arch, keys, tensors):
    text = lambda t: struct.pack("<Q", len(t)) + t.encode()

    def value(x):
        if isinstance(x, str):
            return struct.pack("<I", 8) + text(x)
        if isinstance(x, bool):
            return struct.pack("<I?", 7, x)
        if isinstance(x, list):
            return struct.pack(f"<IIQ{len(x)}i", 9, 5, len(x), *x)
        return struct.pack("<If", 6, x) if isinstance(x, float) else struct.pack("<II", 4, x)

    keys = {"general.architecture": arch} | {arch + "." + k: x for k, x in keys.items()}
    infos, blob = b"", b""
    for name, x in tensors:
        x = np.ascontiguousarray(x)
        infos += text(name) + struct.pack(f"<I{x.ndim}QIQ", x.ndim, *x.shape[::-1], 0, len(blob))
        blob += x.tobytes() + bytes(-x.nbytes % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(text(k) + value(x) for k, x in keys.items()) + infos
    path.write_bytes(head + bytes(-len(head) % 32) + blob)


def write(tmp_path, kind):
    folder = tmp_path / "model"
    folder.mkdir()
    w = draw(kind)
    write_weights(folder, {n: x for n, (_, x, _) in w.items() if n[0] != "+"})
    (folder / "config.json").write_text(json.dumps(CONFIGS[kind]))
    c = CONFIGS[kind]
    keys = {"embedding_length": H, "block_count": LAYERS, "context_length": 256, "attention.layer_norm_rms_epsilon": c.get("rms_norm_eps", 1e-5)}
    if kind == "mamba2":
        keys |= {"attention.head_count": 0, "feed_forward_length": 0}
    else:
        kv = [KV if i == 1 else 0 for i in range(LAYERS)]
        keys |= {"attention.head_count": HEADS, "attention.head_count_kv": kv if kind in ("granite", "lfm2") else KV, "rope.freq_base": 10000.0,
                 "feed_forward_length": {"granite": 20}.get(kind, WIDE)}
    if kind != "lfm2":
        keys |= {"ssm.conv_kernel": 4, "ssm.inner_size": S["heads"] * S["v"], "ssm.state_size": S["k"], "ssm.time_step_rank": S["heads"], "ssm.group_count": S["groups"]}
    keys |= {"lfm2": {"shortconv.l_cache": 3},
             "granite": {"embedding_scale": 3.0, "attention.scale": 0.2, "residual_scale": 0.5, "logit_scale": 2.0, "expert_count": 4, "expert_used_count": 2,
                         "expert_shared_feed_forward_length": 36, "rope.scaling.finetuned": False},
             "next": {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 16, "expert_shared_feed_forward_length": 24},
             }.get(kind, {})
    if kind in ("next", "q35"):
        keys |= {"attention.key_length": DIM, "attention.value_length": DIM, "rope.dimension_count": DIM // 2, "full_attention_interval": 2}
    arch = {"granite": "granitehybrid", "next": "qwen3next", "q35": "qwen35"}.get(kind, kind)
    write_gguf(tmp_path / "m.gguf", arch, keys, [(n, make(x)) for n, x, make in w.values() if n])
    return folder


def logits(model, tmp_path, *options):
    (tmp_path / "ids.json").write_text(json.dumps(IDS))
    r = ingot("logits", model, "--tokens", tmp_path / "ids.json", "--out", tmp_path / "out.npy", *options)
    assert r.returncode == 0, r.stderr
    return np.load(tmp_path / "out.npy")


def rel(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("kind", CONFIGS)
def test_both_containers_have_the_same_numbers(kind, tmp_path):
    model = write(tmp_path, kind)
    expected = logits(model, tmp_path, "--reference")
    assert rel(logits(tmp_path / "m.gguf", tmp_path, "--reference"), expected) < 2e-6
    for options in ((), ("--chunk", 3), ("--deterministic",)):
        assert rel(logits(tmp_path / "m.gguf", tmp_path, *options), expected) < 2e-2, options


def test_the_language_part_of_a_model_that_sees(tmp_path):
    expected = logits(write(tmp_path, "q35"), tmp_path, "--reference")
    nested = tmp_path / "nested"
    nested.mkdir()
    weights = {n.replace("model.", "model.language_model.", 1): x for n, (_, x, _) in draw("q35").items()}
    write_weights(nested, weights | {"model.visual.patch_embed.proj.weight": np.ones((4, 4), np.float32)})
    config = dict(model_type="qwen3_5", text_config=CONFIGS["q35"], vision_config={"depth": 1})
    (nested / "config.json").write_text(json.dumps(config))
    assert (logits(nested, tmp_path, "--reference") == expected).all()
    (nested / "config.json").write_text(json.dumps(config | dict(tie_word_embeddings=True)))
    assert (logits(nested, tmp_path, "--reference") != expected).any()


@pytest.mark.parametrize("kind", CONFIGS)
def test_quantised_and_converted(kind, tmp_path):
    """Matrices become blocks where rows hold them; convolutions and scans stay as they are."""
    model = write(tmp_path, kind)
    expected = logits(model, tmp_path)
    r = ingot("convert", model, tmp_path / "other.gguf")
    assert r.returncode == 4 and "recurrent" in r.stderr, r.stderr
    r = ingot("convert", model, tmp_path / "half", "--type", "bf16")
    assert r.returncode == 0, r.stderr
    assert rel(logits(tmp_path / "half", tmp_path), expected) < 0.1
    r = ingot("convert", tmp_path / "m.gguf", tmp_path / "q.gguf", "--type", "q8_0")
    assert r.returncode == 0, r.stderr
    assert rel(logits(tmp_path / "q.gguf", tmp_path), expected) < 0.1


@pytest.mark.parametrize("change, words", [
    (dict(mamba_n_groups=4), "groups"), (dict(mamba_n_groups=3, mamba_d_state=10), "shape"), (dict(position_embedding_type="alibi"), "position_embedding_type"),
    (dict(time_step_limit=[1, 0]), "time_step_limit"), (dict(mamba_d_conv=5), "conv1d"), (dict(layer_types=["mamba", "attention", "retention"]), "retention"),
    (dict(mamba_d_state=1 << 16), "shape"), (dict(mamba_n_heads=1 << 17), "mamba_n_heads"),
])
def test_refused_by_name(change, words, tmp_path):
    model = write(tmp_path, "granite")
    (model / "config.json").write_text(json.dumps(CONFIGS["granite"] | change))
    r = ingot("plan", model)
    assert r.returncode == 4 and words in r.stderr, r.stderr


# ---- conversations ----

@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    """Qwen 3.5 with a byte tokenizer and a template."""
    global VOCAB
    folder, here = tmp_path_factory.mktemp("talker"), tmp_path_factory.mktemp("weights")
    write_tiny(folder)
    before, VOCAB = VOCAB, 260
    w = draw("q35")
    VOCAB = before
    write_weights(folder, {n: x for n, (_, x, _) in w.items() if n[0] != "+"})
    (folder / "config.json").write_text(json.dumps(CONFIGS["q35"] | dict(vocab_size=260, max_position_embeddings=2048, eos_token_id=257)))
    return folder


def test_two_turns_over_serve(serve, talker):
    client = serve(talker, "--deterministic", "--alias", "talker").client()
    ask = lambda messages, **more: client.chat.completions.create(model="talker", messages=messages, temperature=0, max_tokens=12, **more)
    messages = [dict(role="user", content="The quick brown fox jumps over the lazy dog, and then it sleeps until the morning comes.")]
    first = ask(messages)
    again = ask(messages, n=2)  # one prompt, forked
    assert [c.message.content for c in again.choices] == [first.choices[0].message.content] * 2
    longer = messages + [dict(role="assistant", content=first.choices[0].message.content), dict(role="user", content="Go on.")]
    second = ask(longer)
    assert [c.message.content for c in ask(longer, n=3).choices] == [second.choices[0].message.content] * 3
    assert ask(messages).choices[0].message.content == first.choices[0].message.content


def test_the_plan_counts_what_they_remember(tmp_path):
    one, four = (json.loads(ingot("plan", write(tmp_path / str(n), "q35") if not (tmp_path / str(n)).mkdir() else 0, "--json").stdout) for n in (1, 4))
    values = 3 * (2 * S["groups"] * S["k"] + S["heads"] * S["v"]) + S["heads"] * S["k"] * S["v"]
    assert one["recurrent_bytes"] == 6 * 2 * values * 4
    assert one["kv_bytes"] > one["recurrent_bytes"] and four["kv_bytes"] == one["kv_bytes"]
