"""Mixtures of experts as files: folders with a tensor for each expert or for all, GGUF's stacks, quantised on the way and while opening;
what a plan counts."""
import json
import numpy as np
import pytest
from conftest import convert, golden, ingot, logits, rel, shapes_of, types_of, write_weights

MORE = {"mixtral": dict(num_local_experts="experts"), "qwen2_moe": dict(num_experts="experts", shared_expert_intermediate_size="shared"),
        "qwen3_moe": dict(num_experts="experts")}


def write(folder, kind, **what):
    g = golden()
    c = g.BASE | g.MODELS[kind] | what
    c["width"] = c["inter"] if kind == "mixtral" else c["width"]  # which has one word for both
    folder.mkdir()
    write_weights(folder, g.weights(c))
    (folder / "config.json").write_text(json.dumps(dict(
        model_type=kind, hidden_size=c["hidden"], intermediate_size=c["inter"], num_hidden_layers=c["layers"], num_attention_heads=c["heads"],
        num_key_value_heads=c["kv"], head_dim=c["head_dim"], vocab_size=c["vocab"], max_position_embeddings=c["positions"], rms_norm_eps=c["eps"],
        tie_word_embeddings=c["tied"], num_experts_per_tok=c["chosen"], moe_intermediate_size=c["width"], norm_topk_prob=c["normalised"],
        mlp_only_layers=list(range(c["plain_layers"]))) | {k: c[v] for k, v in MORE[kind].items()}))
    return folder


KINDS = {"mixtral": {}, "qwen2_moe": dict(window=0), "qwen3_moe": {}}


@pytest.mark.parametrize("kind", KINDS)
def test_gguf_has_the_same_numbers(kind, tmp_path):
    source = write(tmp_path / "source", kind, **KINDS[kind])
    gguf = convert(source, tmp_path / "m.gguf")
    assert rel(logits(gguf, tmp_path), logits(source, tmp_path)) < 2e-6
    assert rel(logits(gguf, tmp_path, "--chunk", "3"), logits(source, tmp_path)) < 1e-2
    c = golden().BASE | golden().MODELS[kind]
    shapes = shapes_of(gguf)
    assert shapes["blk.1.ffn_gate_exps.weight"] == [c["experts"], c["width"], 48] and shapes["blk.1.ffn_down_exps.weight"] == [c["experts"], 48, c["width"]]
    assert types_of(gguf)["blk.1.ffn_gate_exps.weight"] == "F32"
    r = ingot("convert", gguf, tmp_path / "back")
    assert r.returncode == 4 and "without experts" in r.stderr, r.stderr


WIDE = dict(hidden=64, inter=96, width=64, shared=64, window=0, head_dim=16)


@pytest.mark.parametrize("kind", KINDS)
def test_quantised_alike_by_convert_and_while_opening(kind, tmp_path):
    what = WIDE | dict(shared=WIDE["shared"] if kind == "qwen2_moe" else 0)
    source = write(tmp_path / "source", kind, **what)
    wanted = logits(source, tmp_path)
    gguf = convert(source, tmp_path / "m.gguf", "--type", "q8_0")
    types = types_of(gguf)
    assert types["blk.1.ffn_up_exps.weight"] == "Q8_0" and types["blk.1.ffn_gate_inp.weight"] == "F32"
    by_file = logits(gguf, tmp_path)
    r = ingot("logits", source, "--quantize", "q8_0", "--tokens", tmp_path / "ids.json", "--out", tmp_path / "out.npy", "--reference",
              env={"INGOT_HOME": str(tmp_path / "home")})
    assert r.returncode == 0, r.stderr
    while_opening = np.load(tmp_path / "out.npy")
    assert rel(by_file, wanted) < 5e-2 and rel(while_opening, wanted) < 5e-2
    assert rel(by_file, while_opening) < 1e-6  # the same blocks


def test_a_plan_counts_what_a_token_reads(tmp_path):
    source = write(tmp_path / "source", "mixtral", experts=8, chosen=2)
    r = ingot("plan", source, "--json")
    plan = json.loads(r.stdout)
    experts = 2 * 8 * 3 * 48 * 32 * 4
    assert plan["weights_bytes"] - plan["read_bytes_per_token"] == experts * 6 // 8


def test_what_does_not_fit_is_named(tmp_path):
    source = write(tmp_path / "source", "mixtral")
    config = json.loads((source / "config.json").read_text())
    for change, words in ((dict(num_local_experts=6), "gate.weight has shape [5, 48] where [6, 48]"), (dict(num_experts_per_tok=6), "num_experts_per_tok is 6 of 5"),
                          (dict(intermediate_size=31), "has shape [32, 48] where [31, 48]"), (dict(num_local_experts=10**6), "num_local_experts is 1000000")):
        (source / "config.json").write_text(json.dumps(config | change))
        r = ingot("plan", source)
        assert r.returncode == 4 and words in r.stderr, r.stderr


@pytest.mark.parametrize("devices", [("--device", "cuda"), ("--device", "cuda", "--chunk", 1), ("--device", "cuda:0,0"), ("--cpu-ffn", 1), ("--gpu-layers", 1)])
@pytest.mark.parametrize("kind", ["mixtral", "qwen2_moe"])
def test_on_a_card(kind, devices, card, tmp_path):
    """The whole, in pieces, with matrices shared out over two ranks, with experts on the CPU. Floats: the choices are the reference's."""
    model = write(tmp_path / "model", kind, **KINDS[kind])
    expected, got = card.logits(model, "--reference"), card.logits(model, "--kv", "f32", *devices)
    assert rel(got, expected) < 1e-5


@pytest.mark.parametrize("kernel", ["route", "experts", "combine"])
def test_what_a_card_lacks(kernel, card, tmp_path):
    """One operation on the CPU and the others on the card: what was chosen crosses with the rows."""
    model = write(tmp_path / "model", "mixtral")
    expected = card.logits(model, "--reference")
    card("logits", model, "--kv", "f32", "--device", "cuda", "--tokens", "tokens.json", "--out", "out.npy", env={"INGOT_EMULATED_WITHOUT": kernel})
    assert rel(np.load(card.folder / "out.npy"), expected) < 1e-5
    plan = json.loads(card("plan", model, "--device", "cuda", "--json", env={"INGOT_EMULATED_WITHOUT": kernel}).stdout)
    assert {f["operation"] for f in plan["fallbacks"]} == {kernel}


def test_a_card_is_tried_with_experts(card, tmp_path):
    """--device auto: the trial has experts where the model has them, so that wrong ones keep the card from being taken."""
    model = write(tmp_path / "model", "mixtral")
    for wrong, device in (("", "cuda:0"), ("experts", "cpu"), ("route", "cpu"), ("combine", "cpu")):
        r = card("plan", model, "--json", "-v", env={"INGOT_EMULATED_WRONG": wrong} if wrong else None)
        assert json.loads(r.stdout)["device"] == device, r.stderr
