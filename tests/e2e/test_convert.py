"""ingot convert: every direction gives the same numbers and the same ids."""
import json, os, pty, resource, shutil, signal, struct, subprocess, time
import numpy as np
import pytest
from conftest import INGOT, convert, golden, ingot, logits, rel, write_model, write_tiny

LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)
KINDS = {
    "plain": {}, "untied": dict(tied=False), "bias": dict(tied=False, bias=True, mlp_bias=True, kv=4, head_dim=16), "llama3": dict(rope=LLAMA3),
    "linear": dict(rope=dict(rope_type="linear", factor=2.5)), "yarn": dict(rope=YARN, kv=1), "window": dict(window=7),
    "yarn-more": dict(rope=YARN | dict(beta_fast=16.0, beta_slow=2.0, attention_factor=1.3)), "theta": dict(theta=500000.0, eps=1e-6)}


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_changes_no_number(kind, tmp_path):
    source = write_model(tmp_path / "source", **KINDS[kind])
    gguf = convert(source, tmp_path / "m.gguf")
    back = convert(gguf, tmp_path / "back")
    again = convert(back, tmp_path / "again.gguf")
    wanted = logits(source, tmp_path)
    for model in (gguf, back, again):
        assert rel(logits(model, tmp_path), wanted) < 2e-6, model
    a, b = (json.loads(ingot("inspect", f, "--json").stdout.splitlines()[0]) for f in (gguf, again))
    a.get("metadata", {}).pop("general.name", None), b.get("metadata", {}).pop("general.name", None)
    assert a.get("metadata") == b.get("metadata")
    old, new = (json.loads((f / "config.json").read_text()) for f in (source, back))
    for key in set(old) & set(new) - {"rope_scaling"}:
        assert old[key] == new[key] or (key in ("max_position_embeddings",) and kind.startswith("yarn")), key
    if old["rope_scaling"]:
        assert old["rope_scaling"] == new["rope_scaling"]


def test_rows_are_in_ggufs_order(tmp_path):
    """Row 2i of a head is the folder's row i, row 2i + 1 its row i + half; biases too."""
    source = write_model(tmp_path / "source", bias=True, kv=2)
    w = golden().weights(golden().BASE | dict(bias=True, kv=2))
    convert(source, tmp_path / "m.gguf")
    data = (tmp_path / "m.gguf").read_bytes()
    for name, heads in (("q", 4), ("k", 2)):
        for part in ("weight", "bias"):
            a = w[f"model.layers.1.self_attn.{name}_proj.{part}"]
            rows = a.reshape(heads, 2, a.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(a.shape)
            assert rows.tobytes() in data and a.tobytes() not in data
    assert w["model.layers.1.self_attn.v_proj.weight"].tobytes() in data


@pytest.mark.parametrize("type, limit", [("f32", 1e-7), ("f16", 1e-3), ("bf16", 8e-3)])
def test_types(type, limit, tiny, tmp_path):
    wanted = logits(tiny, tmp_path)
    folder = convert(tiny, tmp_path / "folder", "--type", type)
    gguf = convert(tiny, tmp_path / "m.gguf", "--type", type)
    again = convert(gguf, tmp_path / "again.gguf", "--type", type)
    back = convert(gguf, tmp_path / "back")
    for model in (folder, gguf, again, back):
        assert rel(logits(model, tmp_path), wanted) < limit, model
    assert again.read_bytes() == gguf.read_bytes()
    assert json.loads((folder / "config.json").read_text())["torch_dtype"] == {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[type]
    types = {t["name"]: t["type"] for t in map(json.loads, ingot("inspect", gguf, "--tensors", "--json").stdout.splitlines()[1:])}
    assert types["blk.0.attn_q.weight"] == type.upper() and types["blk.0.attn_norm.weight"] == types["output_norm.weight"] == "F32"


TEXTS = ["hello", " a  b\n", "<|im_start|>x<|im_end|>", "Ünï 漢字 🌞", "it's 12345, isn't it?", "\u00a0\t\t", ""]


def ids_of(model):
    lines = "\n".join(json.dumps(dict(text=t, add_special=s, parse_special=p)) for t in TEXTS for s in (True, False) for p in (True, False))
    return ingot("tokenize", model, "--jsonl", stdin=lines).stdout.splitlines()


def test_tokenizer_and_template_travel(tiny, tmp_path):
    gguf = convert(tiny, tmp_path / "m.gguf")
    back = convert(gguf, tmp_path / "back")
    request = json.dumps({"messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": True})
    for model in (gguf, back):
        assert ids_of(model) == ids_of(tiny)
        assert ingot("template", model, stdin=request).stdout == ingot("template", tiny, stdin=request).stdout != ""
        assert ingot("run", model, "hi", "-n", 8, "--temperature", 0).stdout == ingot("run", tiny, "hi", "-n", 8, "--temperature", 0).stdout
    config, generation = (json.loads((back / n).read_text()) for n in ("config.json", "generation_config.json"))
    assert config["eos_token_id"] == generation["eos_token_id"] == 257
    copy = convert(tiny, tmp_path / "copy", "--type", "bf16")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (copy / name).read_bytes() == (tmp_path.__class__(tiny) / name).read_bytes()


def sentencepiece(folder, metaspace=False):
    """The tiny model with a SentencePiece-like tokenizer of bytes, letters and a few words."""
    folder.mkdir()
    write_tiny(folder)
    space = "\u2581"
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{b:02X}>": 3 + b for b in range(256)}
    for piece in [space, "a", "b", "c", "h", "e", "l", "o", "he", "ll", "hell", "hello", space + "hello", "ab", "abc", "bc", space + "a", "lo"]:
        vocab[piece] = len(vocab)
    order = [piece for piece in vocab if len(piece) > 1 and not piece.startswith("<")]
    merges = [[p[:i], p[i:]] for p in order for i in range(1, len(p)) if p[:i] in vocab and p[i:] in vocab]
    normalizer = dict(type="Sequence", normalizers=[dict(type="Prepend", prepend=space), dict(type="Replace", pattern=dict(String=" "), content=space)])
    piece = lambda t: {"SpecialToken": {"id": t, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    (folder / "tokenizer.json").write_text(json.dumps(dict(
        added_tokens=[dict(id=i, content=c, special=True, normalized=False) for i, c in enumerate(("<unk>", "<s>", "</s>"))],
        normalizer=None if metaspace else normalizer,
        pre_tokenizer=dict(type="Metaspace", replacement=space, prepend_scheme="never", split=False) if metaspace else None,
        post_processor=dict(type="TemplateProcessing", single=[piece("<s>"), text], pair=[piece("<s>"), text],
                            special_tokens={"<s>": dict(id="<s>", ids=[1], tokens=["<s>"])}),
        decoder=dict(type="Sequence", decoders=[dict(type="Replace", pattern=dict(String=space), content=" "), dict(type="ByteFallback"), dict(type="Fuse")]
                     + ([] if metaspace else [dict(type="Strip", content=" ", start=1, stop=0)])),
        model=dict(type="BPE", unk_token="<unk>", fuse_unk=True, byte_fallback=True, vocab=vocab, merges=merges)), ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")))
    return folder


@pytest.mark.parametrize("metaspace", [False, True])
def test_sentencepiece_travels(metaspace, tmp_path):
    source = sentencepiece(tmp_path / "source", metaspace)
    gguf = convert(source, tmp_path / "m.gguf")
    back = convert(gguf, tmp_path / "back")
    texts = TEXTS + ["hello abc", "  hello", "helloabcab bc a", "<s>hello</s> a", "xyz\u00e9 hello"]
    for model in (gguf, back):
        for text in texts:
            for options in ((), ("--no-special",), ("--parse-special",)):
                assert ingot("tokenize", model, *options, stdin=text).stdout == ingot("tokenize", source, *options, stdin=text).stdout, (model, text)
    ids = ingot("tokenize", source, stdin="hello abc").stdout
    assert ingot("detokenize", back, stdin=ids).stdout == ingot("detokenize", source, stdin=ids).stdout


def change(path, **what):
    path.write_text(json.dumps(json.loads(path.read_text()) | what))


@pytest.mark.parametrize("arguments, code, words", [
    ([], 2, "SRC and DST"), (["SRC"], 2, "SRC and DST"), (["SRC", "OUT", "--type", "q8_0"], 2, ".gguf"), (["SRC", "OUT", "--type", "Q4_K_M"], 2, "q4_k_m"),
    (["SRC", "OUT.gguf", "--imatrix", "f"], 2, "--imatrix"), (["SRC", "OUT", "--to", "onnx"], 2, "onnx"), (["SRC", "SRC"], 2, "exists"), (["/no/such", "OUT"], 4, "/no/such"),
    (["SRC", "OUT/deep/m.gguf"], 1, "m.gguf")])
def test_wrong_use(arguments, code, words, tiny, tmp_path):
    r = ingot("convert", *[{"SRC": tiny}.get(a, a.replace("OUT", str(tmp_path / "out"))) for a in arguments])
    assert r.returncode == code and words.lower() in r.stderr.lower() and not r.stdout and os.listdir(tmp_path) == []


def test_what_has_no_place_is_named(tiny, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(tiny, source)

    def refused(words, target="m.gguf"):
        r = ingot("convert", source, tmp_path / target)
        assert r.returncode == 4 and words in r.stderr and not (tmp_path / target).exists(), r.stderr

    original = {n: (source / n).read_text() for n in ("config.json", "tokenizer.json")}
    change(source / "config.json", hidden_act="gelu")
    refused("hidden_act")
    (source / "config.json").write_text(original["config.json"])
    change(source / "config.json", rope_scaling=dict(rope_type="dynamic", factor=2.0))
    refused("dynamic")
    (source / "config.json").write_text(original["config.json"])
    change(source / "tokenizer.json", pre_tokenizer=dict(type="Sequence", pretokenizers=[
        dict(type="Split", pattern=dict(Regex="[a-z]+x"), behavior="Isolated", invert=False), dict(type="ByteLevel", add_prefix_space=False, use_regex=False)]))
    refused("[a-z]+x")
    change(source / "tokenizer.json", pre_tokenizer=dict(type="WhitespaceSplit"))
    refused("WhitespaceSplit")
    (source / "tokenizer.json").write_text(original["tokenizer.json"])
    change(source / "tokenizer.json", normalizer=dict(type="Lowercase"))
    refused("Lowercase")


def test_foreign_rope_divisors_are_refused(tmp_path):
    source = write_model(tmp_path / "source", rope=LLAMA3)
    gguf = convert(source, tmp_path / "m.gguf")
    data = bytearray(gguf.read_bytes())
    at = data.rindex(struct.pack("<f", 8.0))  # the last divisor lies at the end of the file
    data[at:at + 4] = struct.pack("<f", 7.0)
    gguf.write_bytes(data)
    r = ingot("convert", gguf, tmp_path / "back")
    assert r.returncode == 4 and "rope_freqs.weight" in r.stderr and not (tmp_path / "back").exists()


def test_a_full_disk_leaves_nothing(tiny, tmp_path):
    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))

    for target in ("m.gguf", "folder"):
        r = ingot("convert", tiny, tmp_path / target, preexec_fn=small)
        assert r.returncode == 1 and target in r.stderr and os.listdir(tmp_path) == []


def test_half_refuses_what_it_cannot_hold(tmp_path):
    source = write_model(tmp_path / "source")
    file = source / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-300:-296] = struct.pack("<f", 1e6)
    data[-5000:-4996] = struct.pack("<f", 1e6)
    file.write_bytes(data)
    r = ingot("convert", source, tmp_path / "m.gguf", "--type", "f16")
    assert r.returncode == 1 and "bf16" in r.stderr and os.listdir(tmp_path) == ["source"]


def test_ctrl_c_leaves_nothing(default_model, tmp_path):
    for target in ("m.gguf", "folder"):
        p = subprocess.Popen([INGOT, "convert", default_model, str(tmp_path / target), "--type", "f32"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        end = time.monotonic() + 30
        while not os.listdir(tmp_path) and time.monotonic() < end:
            time.sleep(0.002)
        p.send_signal(signal.SIGINT)
        assert p.wait(30) == 130 and os.listdir(tmp_path) == []


def test_progress_only_on_a_terminal(tiny, tmp_path):
    r = ingot("convert", tiny, tmp_path / "a.gguf", "--quiet")
    assert r.returncode == 0 and not r.stderr and not r.stdout
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(INGOT, [INGOT, "convert", tiny, str(tmp_path / "b.gguf")])
    seen = b""
    try:
        while piece := os.read(fd, 4096):
            seen += piece
    except OSError:
        pass
    os.waitpid(pid, 0)
    assert b"100 %" in seen and (tmp_path / "b.gguf").exists()


def test_default_model_needs_a_type_for_safetensors(default_model, tmp_path):
    r = ingot("convert", default_model, tmp_path / "folder")
    assert r.returncode == 2 and "--type" in r.stderr and "Q8_0" in r.stderr and os.listdir(tmp_path) == []
    same = convert(default_model, tmp_path / "same.gguf")  # quantised tensors go over as they are
    ids = [[1, 9690, 198, 2683]]
    assert np.array_equal(logits(same, tmp_path, ids=ids), logits(default_model, tmp_path, ids=ids))
