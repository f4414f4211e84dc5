"""Quantising: every type loads and runs, --quantize keeps what it made, imatrix files, perplexity and KL divergence."""
import json, os, re, resource, shutil, signal, struct, subprocess, time
import numpy as np
import pytest
from conftest import INGOT, convert, ingot, logits, rel, types_of, write_model, write_tiny

# how far the logits of the wide model may move: its random weights blow small changes up (seen: 0.77 of it)
TYPES = {"q8_0": 0.034, "q6_k": 0.12, "q5_k_m": 0.27, "q5_k_s": 0.28, "q5_1": 0.26, "q5_0": 0.23, "q4_k_m": 0.49, "q4_k_s": 0.48, "q4_1":
         0.52, "q4_0": 0.4, "iq4_nl": 0.38, "iq4_xs": 0.36, "q3_k_l": 0.66, "q3_k_m": 0.67, "q3_k_s": 0.81, "q2_k": 0.95, "q2_k_s": 1.2}
TEXT = "Nobody knows how many words a tiny model drawn from seeds has read, but it can be measured how much they surprise it. " * 8


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    """Rows of 256 and 512: super-blocks fit."""
    return write_model(tmp_path_factory.mktemp("wide") / "model", hidden=256, inter=512, head_dim=64, layers=4)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The tiny model with rows of 64 and 96."""
    return str(write_tiny(tmp_path_factory.mktemp("small"), hidden=64, inter=96, head_dim=16))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("INGOT_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "quantised"


def kept(home):
    return sorted(f for f in os.listdir(home) if not f.endswith(".lock")) if home.exists() else []


@pytest.mark.parametrize("type", TYPES)
def test_every_type_loads_and_runs(type, wide, tmp_path):
    file = convert(wide, tmp_path / "m.gguf", "--type", type.upper())
    wanted, found = logits(wide, tmp_path), logits(file, tmp_path)
    assert 0.2 * TYPES[type] < rel(found, wanted) < TYPES[type]
    ids = tmp_path / "few.json"
    ids.write_text("[3, 50, 255]")
    a, b = (json.loads(ingot("run", file, "--tokens", ids, "-n", 6, "--temperature", 0, "--json", *o).stdout)["tokens"] for o in ((), ("--reference",)))
    assert len(a) == 6 and a[0] == b[0]
    types = types_of(file)
    base = re.sub("_[SML]$", "", type.upper())
    assert base in types.values() and types["blk.0.attn_norm.weight"] == types["output_norm.weight"] == "F32"
    assert types["token_embd.weight"] == ("Q8_0" if type == "q8_0" else "Q6_K")  # it is the output too
    assert types["blk.3.ffn_down.weight"] == {"q4_k_m": "Q6_K", "q5_k_m": "Q6_K", "q2_k": "Q3_K", "q3_k_m": "Q4_K", "q3_k_l": "Q5_K"}.get(type, base)
    assert types["blk.1.attn_q.weight"] == base
    again = convert(wide, tmp_path / "again.gguf", "--type", type)
    assert again.read_bytes() == file.read_bytes()  # whatever threads did what


def test_short_rows_become_smaller_blocks_and_it_is_said(small, tmp_path):
    r = ingot("convert", small, tmp_path / "m.gguf", "--type", "q4_k_m")
    assert r.returncode == 0 and "Q6_K" in r.stderr and "64 columns" in r.stderr, r.stderr
    assert set(types_of(tmp_path / "m.gguf").values()) <= {"F32", "Q5_0", "Q8_0"}
    assert rel(logits(tmp_path / "m.gguf", tmp_path), logits(small, tmp_path)) < 0.3


@pytest.mark.parametrize("arguments, code, words", [
    (["out", "--type", "q4_k_m"], 2, ".gguf"), (["out", "--type", "q8_0", "--to", "safetensors"], 2, "Q8_0"), (["m.gguf", "--type", "q9_0"], 2, "q4_k_m"),
    (["m.gguf", "--type", "f16", "--imatrix", "x"], 2, "--imatrix"), (["m.gguf", "--type", "q4_0", "--imatrix", "/no/such"], 4, "/no/such")])
def test_refused(arguments, code, words, tiny, tmp_path):
    r = ingot("convert", tiny, *[str(tmp_path / a) if a in ("out", "m.gguf") else a for a in arguments])
    assert r.returncode == code and words in r.stderr and os.listdir(tmp_path) == [], r.stderr


@pytest.mark.parametrize("value, words", [(float("nan"), "nan"), (float("-inf"), "-inf"), (1e6, "bf16")])
def test_what_is_no_weight_is_refused(value, words, tmp_path):
    source = write_model(tmp_path / "source", hidden=64, inter=96, head_dim=16)
    data = bytearray((source / "model.safetensors").read_bytes())
    at = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])["model.layers.1.mlp.up_proj.weight"]["data_offsets"][0] + 8 + struct.unpack("<Q", data[:8])[0]
    data[at + 400:at + 404] = struct.pack("<f", value)
    (source / "model.safetensors").write_bytes(data)
    r = ingot("convert", source, tmp_path / "m.gguf", "--type", "q4_0")
    assert r.returncode == 1 and words in r.stderr and "up_proj" in r.stderr and os.listdir(tmp_path) == ["source"], r.stderr


# ---- imatrix -----------------------------------------------------------------------------------------------------------

def imatrix_dat(entries):
    out = struct.pack("<i", len(entries))
    for name, values in entries.items():
        out += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 7, len(values)) + values.astype("<f4").tobytes()
    return out + struct.pack("<ii", 7, 4) + b"text"


def imatrix_gguf(entries):
    infos, data = b"", b""
    for name, values in [(n + e, v) for n, v in entries.items() for e, v in ((".in_sum2", v), (".counts", np.full(1, 7)))]:
        infos += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<IQQIQ", 2, len(values), 1, 0, len(data))
        data += values.astype("<f4").tobytes() + bytes(-4 * len(values) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, 2 * len(entries), 1) + struct.pack("<Q", 12) + b"general.type" + struct.pack("<IQ", 8, 7) + b"imatrix" + infos
    return head + bytes(-len(head) % 32) + data


def weight(folder, name):
    data = (folder / "model.safetensors").read_bytes()
    size, = struct.unpack_from("<Q", data)
    t = json.loads(data[8:8 + size])[name]
    first, end = (8 + size + at for at in t["data_offsets"])
    return np.frombuffer(data[first:end], "<f4").reshape(t["shape"])


def test_imatrix_aims_at_its_columns(wide, tmp_path):
    """Columns that count are closer to the truth, alike for both forms of the file."""
    importance = np.where(np.arange(512) % 8 == 0, 10, 0.01)
    entries = {"blk.1.ffn_down.weight": importance}
    (tmp_path / "i.dat").write_bytes(imatrix_dat(entries))
    (tmp_path / "i.gguf").write_bytes(imatrix_gguf(entries))
    files = [convert(wide, tmp_path / f"{n}.gguf", "--type", "q4_k_s", *o) for n, o in
             (("plain", ()), ("dat", ("--imatrix", tmp_path / "i.dat")), ("gguf", ("--imatrix", tmp_path / "i.gguf")))]
    plain, dat, both = (f.read_bytes() for f in files)
    assert dat == both != plain
    truth, a, b = (weight(f, "model.layers.1.mlp.down_proj.weight") for f in [wide] + [convert(f, tmp_path / f.stem, "--type", "f32") for f in files[:2]])
    assert np.linalg.norm((b - truth)[:, ::8]) < 0.8 * np.linalg.norm((a - truth)[:, ::8])


@pytest.mark.parametrize("data", [b"", b"\1", b"\0\0\0\0", struct.pack("<i", 1 << 30), struct.pack("<ii", 1, 1 << 30), struct.pack("<ii", 1, -5),
                                  struct.pack("<ii", 1, 2) + b"ab" + struct.pack("<ii", 1, 1 << 29), struct.pack("<ii", 1, 2) + b"ab" + struct.pack("<iif", 1, 1, float("nan")),
                                  imatrix_dat({"blk.1.ffn_down.weight": np.ones(33)}), b"GGUF\3\0\0\0"])
def test_hostile_imatrix(data, wide, tmp_path):
    (tmp_path / "i").write_bytes(data)
    r = ingot("convert", wide, tmp_path / "m.gguf", "--type", "q4_0", "--imatrix", tmp_path / "i")
    assert r.returncode == 4 and str(tmp_path / "i") in r.stderr and not (tmp_path / "m.gguf").exists(), r.stderr


# ---- --quantize ----------------------------------------------------------------------------------------------------------

def answer(model, *options, **more):
    r = ingot("run", model, "hi", "-n", 8, "--temperature", 0, "--json", *options, **more)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)["text"], r.stderr


@pytest.mark.parametrize("type, other", [("q8_0", "--load-in-8bit"), ("q4_k_m", "--load-in-4bit")])
def test_quantised_once(type, other, small, home, tmp_path):
    text, said = answer(small, "--quantize", type)
    assert "quantising" in said and len(kept(home)) == 1
    file, = kept(home)
    before = os.stat(home / file)
    for options in (("--quantize", type.upper()), (other,), ("--quantize", type, "--no-mmap"), ("--quantize", type, "--reference")):
        again, said = answer(small, *options)
        assert "quantising" not in said and (again == text or "--reference" in options)
    assert os.stat(home / file).st_mtime_ns == before.st_mtime_ns and kept(home) == [file]
    moved = shutil.copytree(small, tmp_path / "moved", copy_function=shutil.copy2)
    assert "quantising" not in answer(moved, other)[1]  # found by what it is, not by where
    os.utime(moved / "model.safetensors")
    assert "quantising" in answer(moved, other)[1] and len(kept(home)) == 2


def test_same_numbers_as_a_converted_file(wide, home, tmp_path):
    ids = tmp_path / "ids.json"
    ids.write_text("[3, 50, 255, 0, 17, 90]")
    converted = convert(wide, tmp_path / "m.gguf", "--type", "q5_1")
    for model, options in ((wide, ("--quantize", "q5_1")), (converted, ())):
        r = ingot("logits", model, "--tokens", ids, "--out", tmp_path / f"{len(options)}.npy", "--reference", *options)
        assert r.returncode == 0, r.stderr
    assert rel(np.load(tmp_path / "2.npy"), np.load(tmp_path / "0.npy")) < 1e-5  # rows of Q and K stand in another order
    p = json.loads(ingot("plan", wide, "--quantize", "q5_1", "--json").stdout)
    assert p["weights_bytes"] == json.loads(ingot("plan", converted, "--json").stdout)["weights_bytes"] < json.loads(ingot("plan", wide, "--json").stdout)["weights_bytes"] / 4


def test_plan_computes_nothing(small, home):
    assert ingot("plan", small, "--load-in-4bit", "--json").returncode == 0 and kept(home) == []


def test_options_and_config(small, home, tmp_path, default_model):
    (tmp_path / "c.yaml").write_text("load_in_8bit: true\n")
    assert "q8_0" in answer(small, "--config", tmp_path / "c.yaml")[1]
    for options, code, words in ((("--load-in-8bit", "--load-in-4bit"), 2, "one of them"), (("--quantize", "f16"), 2, "q4_k_m"), (("--quantize", "none"), 0, "")):
        r = ingot("run", small, "hi", "-n", 1, *options)
        assert r.returncode == code and words in r.stderr
    r = ingot("run", default_model, "hi", "-n", 1, "--load-in-8bit")
    assert r.returncode == 2 and "quantised already" in r.stderr


def test_served(small, home, serve):
    server = serve(small, "--load-in-8bit")
    r = server.client().completions.create(model=small, prompt="hi", max_tokens=4, temperature=0)
    assert r.choices[0].text and len(kept(home)) == 1


def test_damaged_or_half_is_made_anew(small, home):
    text = answer(small, "--load-in-8bit")[0]
    file, = kept(home)
    whole = (home / file).read_bytes()
    for damage in (whole[:len(whole) // 2], b"", b"GGUF" + bytes(60)):
        (home / file).write_bytes(damage)
        (home / (file + ".Xa12bc")).write_bytes(b"of a killed one")
        assert answer(small, "--load-in-8bit")[0] == text
        assert kept(home) == [file] and (home / file).read_bytes() == whole


def test_killed_in_the_middle(default_model, home, tmp_path):
    source = convert(default_model, tmp_path / "big.gguf", "--type", "f32")
    command = [INGOT, "run", str(source), "hi", "-n", "4", "--temperature", "0", "--quantize", "q4_k_m"]
    for wait in (0.05, 0.6):
        p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while not kept(home) and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(wait)
        p.kill()
        p.wait()
        assert all(not f.endswith(".gguf") for f in kept(home))
    both = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    (a, said_a), (b, said_b) = (p.communicate(timeout=120) for p in both)
    assert a == b and a.strip() and all(p.returncode == 0 for p in both)
    assert (said_a + said_b).count("quantising " + str(source)) == 1  # the other one waited or came later
    assert len(kept(home)) == 1 and kept(home)[0].endswith(".gguf")


def test_no_space(small, home):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))

    r = ingot("run", small, "hi", "-n", 1, "--load-in-8bit", preexec_fn=limit)
    assert r.returncode == 1 and str(home) in r.stderr and "INGOT_HOME" in r.stderr and kept(home) == [], r.stderr


# ---- perplexity ------------------------------------------------------------------------------------------------------------

def perplexity(model, *options, text=TEXT):
    r = ingot("perplexity", model, "--text", "-", "--context", 64, "--json", *options, stdin=text)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


def test_perplexity_is_what_the_logits_say(small, tmp_path):
    found = perplexity(small, "--reference")
    ids = json.loads(ingot("tokenize", small, stdin=TEXT).stdout)
    windows = [ids[i:i + 64] for i in range(0, len(ids) - 63, 64)]
    all_logits = logits(small, tmp_path, ids=windows).reshape(len(windows), 64, -1).astype(np.float64)
    logp = all_logits - np.log(np.exp(all_logits).sum(-1, keepdims=True))
    nll = np.array([-logp[w, i, windows[w][i + 1]] for w in range(len(windows)) for i in range(32, 63)])
    assert found["scored_tokens"] == len(nll) and found["windows"] == len(windows) and found["text_tokens"] == len(ids) and found["text_bytes"] == len(TEXT)
    assert abs(found["nll"] - nll.mean()) < 1e-5 and found["perplexity"] == pytest.approx(np.exp(nll.mean()), rel=1e-5)
    assert found["stderr"] == pytest.approx(np.exp(nll.mean()) * nll.std() / np.sqrt(len(nll) - 1), rel=1e-5)
    assert abs(found["bits_per_byte"] - nll.mean() / np.log(2) * len(ids) / len(TEXT)) < 1e-5


def test_kl_divergence(small, home, tmp_path):
    base = perplexity(small, "--save-logits", tmp_path / "base")
    self = perplexity(small, "--kl-base", tmp_path / "base")
    assert abs(self["kl"]["mean"]) < 1e-5 and self["kl"]["max"] < 2e-4 and self["same_top"] == 1 and self["rms_dp"] < 1e-4
    assert self["base_perplexity"] == pytest.approx(base["perplexity"], rel=1e-5) and self["perplexity"] == base["perplexity"]
    last = 0
    for type in ("q8_0", "q5_1", "q4_0"):
        k = perplexity(small, "--kl-base", tmp_path / "base", "--quantize", type)
        assert last < k["kl"]["median"] <= k["kl"]["p99"] <= k["kl"]["max"] and k["kl"]["mean"] > 0 and k["rms_dp"] > 0
        last = k["kl"]["median"]
    assert k["same_top"] < 1


def test_kl_divergence_by_hand(small, home, tmp_path):
    perplexity(small, "--save-logits", tmp_path / "base", "--reference")
    found = perplexity(small, "--kl-base", tmp_path / "base", "--reference", "--quantize", "q4_0")["kl"]
    ids = json.loads(ingot("tokenize", small, stdin=TEXT).stdout)
    windows = [ids[i:i + 64] for i in range(0, len(ids) - 63, 64)]
    (tmp_path / "ids.json").write_text(json.dumps(windows))
    logp = []
    for options in ((), ("--quantize", "q4_0")):
        assert ingot("logits", small, "--tokens", tmp_path / "ids.json", "--out", tmp_path / "l.npy", "--reference", *options).returncode == 0
        x = np.load(tmp_path / "l.npy").astype(np.float64).reshape(len(windows), 64, -1)[:, 32:63]
        logp.append(x - np.log(np.exp(x).sum(-1, keepdims=True)))
    kl = (np.exp(logp[0]) * (logp[0] - logp[1])).sum(-1).ravel()
    assert abs(found["mean"] - kl.mean()) < 2e-5 and abs(found["max"] - kl.max()) < 3e-4 and abs(found["median"] - np.sort(kl)[len(kl) // 2]) < 3e-4


def test_hostile_base_runs(small, tmp_path):
    perplexity(small, "--save-logits", tmp_path / "base")
    good = (tmp_path / "base").read_bytes()
    tokens = 24 + 4 * 64 * struct.unpack_from("<Q", good, 16)[0]
    cases = {"empty": b"", "other": b"x" * 1000, "short": good[:-1], "long": good + b"x", "half": good[:len(good) // 2],
             "vocab": good[:8] + struct.pack("<I", 1 << 31) + good[12:], "context": good[:12] + struct.pack("<I", 0) + good[16:],
             "windows": good[:16] + struct.pack("<Q", (1 << 63) + 5) + good[24:], "tokens": good[:24] + b"\xff" * 4 + good[28:],
             "nan": good[:tokens] + struct.pack("<f", float("nan")) + good[tokens + 4:], "best": good[:tokens] + struct.pack("<f", 50) + good[tokens + 4:],
             "none": good[:tokens + 8] + b"\x01\x00" * 300 + good[tokens + 8 + 600:]}
    for name, data in cases.items():
        (tmp_path / "bad").write_bytes(data)
        r = ingot("perplexity", small, "--text", "-", "--context", 64, "--kl-base", tmp_path / "bad", "--json", stdin=TEXT)
        assert r.returncode == 4 and str(tmp_path / "bad") in r.stderr and not r.stdout, (name, r.stderr)
    r = ingot("perplexity", small, "--text", "-", "--context", 64, "--kl-base", tmp_path / "base", stdin="Another text. " * 40)
    assert r.returncode == 4 and "another text" in r.stderr


def test_perplexity_wrong_use(small, tmp_path):
    (tmp_path / "t").write_text(TEXT)
    for options, code, words in ((("--text", tmp_path / "t", "--save-logits", "a", "--kl-base", "b"), 2, "not both"), ((), 2, "--text"),
                                 (("--text", tmp_path / "t", "--context", 2), 2, "4"), (("--text", "/no/such"), 4, "/no/such"),
                                 (("--text", tmp_path / "t", "--context", 5000), 4, "longer text"), (("--text", tmp_path / "t", "--kl-base", "/no/such"), 4, "/no/such")):
        r = ingot("perplexity", small, *options)
        assert r.returncode == code and words in r.stderr and not r.stdout, r.stderr
    r = ingot("perplexity", small, "--text", tmp_path / "t", "--context", 64, "-v")
    assert r.returncode == 0 and "perplexity" in r.stdout and "window 2 of" in r.stderr and "+/-" in r.stdout
