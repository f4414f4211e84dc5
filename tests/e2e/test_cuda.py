"""The program on a CUDA device that is emulated (tests/emulated_card.c): all but the card's own library is what runs on a card."""
import json, os, pathlib, re, shutil, subprocess, sys, urllib.error, urllib.request
import numpy as np
import pytest
from conftest import INGOT, ingot, write_tiny


def test_logits(card, tiny):
    expected, got = card.logits(tiny, "--reference", "--kv", "f16"), card.logits(tiny, "--device", "cuda")
    assert np.linalg.norm(got - expected) < 2e-3 * np.linalg.norm(expected)  # attention by matrix units
    assert (card.logits(tiny, "--device", "cuda", "--chunk", 7) == got).all()
    got = card.logits(tiny, "--device", "cuda", env={"INGOT_CUDA_TUNE": "columns=0"})
    assert np.linalg.norm(got - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("devices", [("--gpu-layers", 1), ("--device", "cuda:0,0"), ("--device", "cuda", "--gpu-layers", 1, "--chunk", 7),
                                     ("--cpu-ffn", 1), ("--device", "cuda", "--cpu-ffn", -1), ("--device", "cuda:0,0", "--cpu-ffn", 1)])
def test_split(card, tiny, devices):
    """Layers, or their feed-forward networks, on the CPU and on the card; matrices shared out over two ranks on one card."""
    expected, got = card.logits(tiny, "--reference", "--kv", "f16"), card.logits(tiny, *devices)
    assert np.linalg.norm(got - expected) < (2e-2 if {"--gpu-layers", "--cpu-ffn"} & set(devices) else 2e-3) * np.linalg.norm(expected)  # the CPU multiplies int8


def test_streams(card, tiny):
    """Networks that the CPU has are the card's for pieces of many tokens, with the bits of a card that has them anyway."""
    arguments = "--device", "cuda", "--cpu-ffn", -1, "--stream-rows"
    plan = json.loads(card("plan", tiny, "--json", *arguments, 19).stdout)
    assert plan["stream_rows"] == 19 and 0 < plan["stream_bytes"] < plan["weights_bytes"]
    assert json.loads(card("plan", tiny, "--json", *arguments, -1).stdout)["stream_rows"] is None
    assert json.loads(card("plan", tiny, "--json", *arguments, 19, "--deterministic").stdout)["stream_rows"] is None
    assert json.loads(card("plan", tiny, "--json", "--device", "cuda", "--stream-rows", 19).stdout)["stream_rows"] is None
    whole, sent, stay = (card.logits(tiny, *devices) for devices in (("--device", "cuda"), (*arguments, 19), (*arguments, -1)))
    assert (sent[:19] == whole[:19]).all() and (sent[19:] == stay[19:]).all() and (stay[:19] != whole[:19]).any()


@pytest.mark.parametrize("room, reused", [("1M", [0, 0, 49, 49]), ("0", [0, 0, 0, 0])])
def test_prompts_rest_on_the_host(card, tiny, serve, room, reused):
    """The card's cache has room for one; what it gives up comes back from the host's memory, bit for bit."""
    s = serve(tiny, "--device", "cuda", "--context", 64, "--parallel", 1, "--deterministic", "--kv-host", room, program=card.folder / "ingot",
              env={"LD_LIBRARY_PATH": str(card.folder)})
    answers = [s.client().completions.create(model=tiny, prompt=letter * 50, max_tokens=4, temperature=0, logprobs=3) for letter in "abab"]
    assert [a.usage.prompt_tokens_details.cached_tokens for a in answers] == reused
    assert all(a.choices[0].logprobs == b.choices[0].logprobs for a, b in zip(answers, answers[2:]))


def test_split_chooses(card, tiny):
    """The card has the head, so tokens are chosen there."""
    card("logits", tiny, "--tokens", "tokens.json", "--last", "--out", "last.npy", "--gpu-layers", 1)
    r = card("run", tiny, "--tokens", "tokens.json", "--max-tokens", 1, "--ignore-eos", "--temperature", 0, "--json", "--gpu-layers", 1, "-v")
    assert [json.loads(line)["tokens"][0] for line in r.stdout.splitlines()] == np.load(card.folder / "last.npy").argmax(-1).tolist()
    assert "come to the host whole" not in r.stderr


def test_tokens(card, tiny):
    """Several sequences that leave one prompt share its blocks until they differ."""
    arguments = "run", tiny, "--tokens", "tokens.json", "--max-tokens", 3, "--temperature", 0, "--json"
    assert card(*arguments, "--device", "cuda", "--kv", "f32").stdout == card(*arguments, "--reference").stdout


SAMPLING = [
    ["--temperature", 0],
    ["--temperature", 1, "--top-k", 0, "--top-p", 1],
    ["--temperature", 0.8, "--top-k", 40, "--top-p", 0.9],
    ["--temperature", 1.3, "--top-k", 0, "--top-p", 0.8, "--min-p", 0.02, "--repeat-penalty", 1.3, "--frequency-penalty", 0.4],
    ["--temperature", 0, "--presence-penalty", 1, "--logit-bias", "65=3", "--logit-bias", "66=-100"],
]


@pytest.mark.parametrize("sampling", SAMPLING, ids=lambda s: "".join(map(str, s)))
def test_sampling(card, tiny, sampling):
    """One seed, one answer, whether tokens are chosen from rows on the host or from what the device finds."""
    arguments = "run", tiny, "--tokens", "tokens.json", "--max-tokens", 8, "--ignore-eos", "--seed", 11, "--json", *sampling
    device = card(*arguments, "--device", "cuda", "--kv", "f32", "-v")
    assert device.stdout == card(*arguments, "--reference").stdout
    assert "come to the host whole" not in device.stderr


@pytest.mark.parametrize("grammar", [["--regex", "(yes|no), [a-z]{4}[.]"], ["--schema", "schema.json"]], ids=["regex", "schema"])
def test_grammar(card, tiny, grammar, tmp_path):
    (card.folder / "schema.json").write_text(json.dumps(dict(type="object", properties=dict(a=dict(enum=[1, 20]), b=dict(enum=["x", "yz"])),
                                                             required=["a", "b"], additionalProperties=False)))
    arguments = "run", tiny, "say", "--raw", "--max-tokens", 24, "--temperature", 0.9, "--top-k", 30, "--seed", 4, *grammar
    device = card(*arguments, "--device", "cuda", "--kv", "f32").stdout
    assert device == card(*arguments, "--reference").stdout
    assert device.startswith(("yes, ", "no, ")) or set(json.loads(device)) == {"a", "b"}


def test_tune(card, tmp_path):
    """The stage that measures what tune.def and products.def leave to a card, dry: the tables still have every setting, and a number for each."""
    root = pathlib.Path(__file__).parents[2]
    subprocess.run([sys.executable, root / "bench" / "random_model.py", tmp_path / "model", "tiny"], check=True)
    table, entry = tmp_path / "tune.def", re.compile(r"^TUNE\((\w+), (\d+)\) +/\* ", re.M)
    product = re.compile(r"^PRODUCT\((\w+), (\w+), (\w+), (\w+), ([012])\)$", re.M)
    for name in ("tune.def", "products.def"):
        shutil.copy(root / "kernels" / "cuda" / name, tmp_path)
    shutil.copy(pathlib.Path(INGOT).parent / "bench" / "bench_products", card.folder)
    before, classes = entry.findall(table.read_text()), [line[:4] for line in product.findall((tmp_path / "products.def").read_text())]
    r = subprocess.run([sys.executable, root / "scripts" / "gpu-tune", card.folder / "ingot", tmp_path / "model", "--quick", "--table", table, "--csv",
                        tmp_path / "all.csv", "--products", card.folder / "bench_products"], capture_output=True, text=True,
                       env=os.environ | {"LD_LIBRARY_PATH": str(card.folder), "INGOT_EMULATED_HOPPER": "1"})
    assert r.returncode == 0 and not r.stderr, r.stderr
    after = dict(entry.findall(table.read_text()))
    chosen = {"_".join(line[:4]): line[4] for line in product.findall((tmp_path / "products.def").read_text())}
    measured = {f"{bits}_any_few_short": chosen[f"{bits}_any_few_short"] for bits in ("plain", "byte", "nibble")}
    assert list(after) == [name for name, _ in before] and len(chosen) == 36 and list(chosen) == list(map("_".join, classes))
    assert r.stdout.split() == [word for pair in (after | measured).items() for word in pair]
    assert len(re.findall("(?m)^plain_any_few_short,(mma.sync|warpgroups|cuBLAS),microseconds", (tmp_path / "all.csv").read_text())) == 3
    assert len((tmp_path / "all.csv").read_text().splitlines()) > 20
    assert "no name=value" in card("bench", tmp_path / "model", "--device", "cuda", "-p", 1, "-n", 0, code=2, env={"INGOT_CUDA_TUNE": "early=x"}).stderr


def test_hopper(card, tmp_path):
    """Prompts by warpgroups, where the driver makes tensor maps; not with --deterministic."""
    root = pathlib.Path(__file__).parents[2]
    subprocess.run([sys.executable, root / "bench" / "random_model.py", tmp_path / "model", "tiny"], check=True)
    model, hopper = tmp_path / "model.gguf", {"INGOT_EMULATED_HOPPER": "1", "INGOT_CUDA_TUNE": "hopper_rows=8"}
    card("convert", tmp_path / "model", model, "--type", "q8_0")

    def logits(*arguments, env):
        r = card("logits", model, "--tokens", "tokens.json", "--out", "out.npy", "-v", "--device", "cuda", *arguments, env=env)
        return np.load(card.folder / "out.npy"), "of 8 rows and more by warpgroups" in r.stderr

    (by_warps, _), (by_groups, used), (kept, unused) = logits(env={}), logits(env=hopper), logits("--deterministic", env=hopper)
    assert used and not unused and (kept == by_warps).all()
    assert np.linalg.norm(by_groups - by_warps) < 1e-2 * np.linalg.norm(by_warps)
    assert (logits(env=hopper | {"INGOT_EMULATED_WRONG": "hopper_q8_0_128"})[0] != by_groups).any()


def test_plan(card, tiny):
    plan = json.loads(card("plan", tiny, "--device", "cuda:0", "--json").stdout)
    assert plan["device"] == "cuda:0" and plan["fits"]
    spare = (1 << 30) - plan["available_bytes"]  # for kernels and what allocations are rounded up by: 1 MiB for each weight
    assert 1 << 28 < spare < 3 << 27
    assert json.loads(card("plan", tiny, "--device", "cuda:0", "--memory", 1 << 30, "--json").stdout)["available_bytes"] == 1 << 30
    assert plan["decode_tokens_per_second_bound"] is None  # nothing was measured; the card's properties say 1 TB/s
    assert plan["decode_tokens_per_second_predicted"] == pytest.approx(1e12 / plan["weights_bytes"], rel=1e-3)
    assert "predicted: at most" in (text := card("plan", tiny, "--device", "cuda").stdout) and "cuda:0 1000 GB/s" in text
    card("plan", tiny, "--device", "cuda", "--memory", 1000, code=5)


def test_auto(card, tiny):
    """A card is taken if the model fits, the plan promises more than the CPU, and a trial computes right; -v says why, or why not."""
    def plan(**env):
        r = card("plan", tiny, "--json", "-v", env=env)
        return json.loads(r.stdout)["device"], r.stderr
    device, said = plan()
    assert device == "cuda:0" and "a trial computed as the reference does" in said
    for env, words in ((dict(INGOT_EMULATED_WRONG="turn"), "does not take the card: device 0 computes wrong"), (dict(INGOT_EMULATED_LOST="9"), "the device is lost"),
                       (dict(INGOT_EMULATED_WITHOUT="norm"), "promises less"), (dict(INGOT_EMULATED_MEMORY="100000"), "out of memory"),
                       (dict(INGOT_EMULATED_OLD="1"), "not of this build")):
        device, said = plan(**env)
        assert device == "cpu" and words in said, said
    assert "computes wrong" in card("run", tiny, "--tokens", "tokens.json", "--max-tokens", 1, env=dict(INGOT_EMULATED_WRONG="turn")).stderr


def test_small_card(card, tmp_path):
    """What leaves a card that is too small: as many first layers as it takes, or the networks of some where that reads less on the CPU."""
    model = write_tiny(tmp_path, hidden=512, inter=2048, layers=3, heads=8, kv=8, head_dim=64)
    attention, network = 4 * 512 * 512 * 4, 3 * 512 * 2048 * 4

    def plan(*arguments, code=0):
        return json.loads(card("plan", model, "--device", "cuda", "--json", *arguments, code=code).stdout)

    whole = plan()
    assert whole["device"] == "cuda:0" and not whole["parts"] and whole["hand_overs"] == 0
    for less, layers, on_cpu, hand_overs in (attention // 2, 2, attention, 1), (network * 3 // 4, 3, network, 2), (network + attention // 2, 2, network + attention, 1):
        p = plan("--memory", whole["total_bytes"] - less)
        cpu, cuda = sorted(p["parts"], key=lambda part: part["device"])
        assert p["fits"] and p["device"] == "cpu+cuda:0" and (cuda["device"], cuda["layers"]) == ("cuda:0", layers), (less, p)
        assert abs(cpu["read_bytes_per_token"] - on_cpu) < 10000 and p["hand_overs"] == hand_overs  # norms beside matrices
        assert cuda["weights_bytes"] + cuda["kv_bytes"] + cuda["scratch_bytes"] <= cuda["available_bytes"]
        assert p["decode_tokens_per_second_predicted"] < whole["decode_tokens_per_second_predicted"]
    p = plan("--cpu-ffn", -1)
    assert sorted((part["device"], part["layers"], part["stretches"]) for part in p["parts"]) == [("cpu", 0, 3), ("cuda:0", 3, 4)]
    p = plan("--gpu-layers", 2, "--memory", whole["total_bytes"] - 2 * (network + attention))
    assert [part["layers"] for part in p["parts"]] == [2, 1] and p["fits"]
    p = plan("--memory", 1 << 20, code=5)
    assert not p["fits"] and any("not one layer fits" in a for a in p["advice"])


def test_small_card_streams(card, tmp_path):
    """Networks that are sent for prompts need room on the card: more of them leave it."""
    model = write_tiny(tmp_path, hidden=128, inter=2048, layers=12, heads=2, kv=2, head_dim=64)
    network = 3 * 128 * 2048 * 4

    def plan(*arguments):
        p = json.loads(card("plan", model, "--device", "cuda", "--json", *arguments).stdout)
        return p, sorted(p["parts"], key=lambda part: part["device"])

    memory = plan()[0]["total_bytes"] - 3 * network
    stays, (few, _) = plan("--memory", memory, "--stream-rows", -1)
    sent, (cpu, cuda) = plan("--memory", memory, "--stream-rows", 16)
    assert stays["fits"] and stays["stream_rows"] is None and sent["fits"] and sent["stream_rows"] == 16
    assert few["read_bytes_per_token"] < 5 * network < (16 << 20) + 2 * network < cpu["read_bytes_per_token"] < 13 * network
    assert cuda["layers"] == 12 and cuda["weights_bytes"] + cuda["kv_bytes"] + cuda["scratch_bytes"] <= cuda["available_bytes"]
    assert abs(sent["stream_bytes"] - cpu["read_bytes_per_token"]) < 50000  # norms stay


FALLBACKS = {  # kernels that the card has no code for: operations that the plan lists
    "norm": {("norm", None)},
    "attend_any_4": {("attend", None)},
    "linear_f32": {("linear", "F32")},
    "input store": {("store", None)},
    "embed norm linear_f32 rope store attend_any_4 add gate select": {("embed", "F32"), ("norm", None), ("linear", "F32"), ("rope", None), ("store", None),
                                                                    ("attend", None), ("add", None), ("gate", None), ("select", None)},
}


@pytest.mark.parametrize("without", FALLBACKS)
def test_fallback(card, tiny, without):
    """What the card cannot run is the CPU's, operation by operation; the plan lists it, and running says it once."""
    lacks = {"INGOT_EMULATED_WITHOUT": without}
    plan = json.loads(card("plan", tiny, "--device", "cuda", "--json", env=lacks).stdout)
    assert {(f["operation"], f["format"]) for f in plan["fallbacks"]} == FALLBACKS[without]
    assert all(f["device"] == "cpu" and f["count"] > 0 and f["reason"].startswith("no kernel ") for f in plan["fallbacks"])
    assert plan["fits"] and plan["device"] == "cpu+cuda:0" and {p["device"] for p in plan["parts"]} <= {"cpu", "cuda:0"}
    text = card("plan", tiny, "--device", "cuda", env=lacks).stdout
    assert text.count("on the CPU ") == len(plan["fallbacks"])
    expected = card.logits(tiny, "--reference", "--kv", "f32")
    r = card("logits", tiny, "--tokens", "tokens.json", "--out", "out.npy", "--device", "cuda", "--kv", "f32", env=lacks)
    got = np.load(card.folder / "out.npy")
    assert np.linalg.norm(got - expected) < (2e-2 if "linear" in without else 1e-5) * np.linalg.norm(expected)  # the CPU multiplies int8
    for f in plan["fallbacks"]:
        assert len(re.findall(rf"{f['count']} x {f['operation']}.* on the CPU: no kernel ", r.stderr)) == 1
    if without != "linear_f32":
        return
    card("logits", tiny, "--tokens", "tokens.json", "--out", "chunk.npy", "--device", "cuda", "--kv", "f32", "--chunk", 7, "--deterministic", env=lacks)
    card("logits", tiny, "--tokens", "tokens.json", "--out", "whole.npy", "--device", "cuda", "--kv", "f32", "--deterministic", env=lacks)
    assert (np.load(card.folder / "chunk.npy") == np.load(card.folder / "whole.npy")).all()


def test_fallback_of_ranks(card, tiny):
    """Two ranks whose norms are the CPU's."""
    expected = card.logits(tiny, "--reference", "--kv", "f32")
    card("logits", tiny, "--tokens", "tokens.json", "--out", "out.npy", "--device", "cuda:0,0", "--kv", "f32", env={"INGOT_EMULATED_WITHOUT": "norm"})
    got = np.load(card.folder / "out.npy")
    assert np.linalg.norm(got - expected) < 1e-5 * np.linalg.norm(expected)
    plan = json.loads(card("plan", tiny, "--device", "cuda:0,0", "--json", env={"INGOT_EMULATED_WITHOUT": "norm"}).stdout)
    assert [p["device"] for p in plan["parts"]] == ["cuda:0", "cuda:0", "cpu"] and plan["parts"][0]["stretches"] == plan["parts"][1]["stretches"] > 1
    assert plan["device"] == "cpu+cuda:0,0"


def on(card, **env):
    return dict(program=card.folder / "ingot", env={"LD_LIBRARY_PATH": str(card.folder)} | env)


def health(server):
    try:
        with urllib.request.urlopen(server.url + "/health") as r:
            return r.status, json.load(r)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)


def test_first_look(card, tiny):
    """What a user with a card asks first; a roof is the card's own."""
    said = card("doctor").stdout
    assert "cuda:0, emulated, 1.0 GiB free" in said and "a trial computed as the reference does" in said
    assert "computes wrong" in card("doctor", env={"INGOT_EMULATED_WRONG": "turn"}).stdout
    r = card("bench", tiny, "--device", "cuda", "-p", 2, "-n", 1, "-r", 1, "--roof", "-o", "json")
    assert all(json.loads(line)["read_gbps"] == 1000 for line in r.stdout.splitlines())
    assert "read roof (nominal, cuda:0): 1000.0 GB/s" in r.stderr


def test_logprobs(card, tiny, serve):
    """Those of the device's lists are those of whole rows."""
    answers = []
    for how in (on(card), {}):
        server = serve(tiny, "--kv", "f32", *(["--device", "cuda"] if how else []), **how)
        for more in dict(), dict(logit_bias={"65": 4}), dict(temperature=0.8):
            a = server.client().completions.create(model="", prompt=[5, 9, 13, 2], max_tokens=3, logprobs=5, seed=3, **dict(temperature=0) | more)
            answers.append(a.choices[0].logprobs)
    for device, host in zip(answers[:3], answers[3:]):
        assert device.tokens == host.tokens
        assert np.allclose(device.token_logprobs, host.token_logprobs, atol=1e-3)  # the processor's kernels round activations
        for one, other in zip(device.top_logprobs, host.top_logprobs):
            assert np.allclose(sorted(one.values()), sorted(other.values()), atol=1e-3)


def test_lost(card, tiny, serve):
    """A device that is lost ends requests with an error; the process stays and says so."""
    import openai
    server = serve(tiny, "--device", "cuda", **on(card, INGOT_EMULATED_LOST="60"))
    assert health(server) == (200, {"status": "ok"})
    for _ in range(2):
        with pytest.raises(openai.InternalServerError, match="the device is lost"):
            server.client().completions.create(model="", prompt=[5, 9, 13, 2], max_tokens=60)
    code, said = health(server)
    assert code == 503 and said["status"] == "error" and "cuda:0 (emulated)" in said["message"] and "the device is lost" in said["message"]
    assert "start ingot again" in said["message"]
    code, log = server.stop()
    assert code == 0 and log.count("the device is lost") == 1
    assert "the device is lost" in card("run", tiny, "--tokens", "tokens.json", "--max-tokens", 3, "--device", "cuda", code=1,
                                        env={"INGOT_EMULATED_LOST": "20"}).stderr


def test_no_memory(card, tiny, serve):
    """Memory that the plan counted on and that is gone when it is asked for."""
    import openai
    short = {"INGOT_EMULATED_MEMORY": "100000"}
    r = card("run", tiny, "--tokens", "tokens.json", "--device", "cuda", code=5, env=short)
    assert "out of memory" in r.stderr and "--context 256 halves the KV cache" in r.stderr
    server = serve(tiny, "--device", "cuda", "--idle-unload", 60, **on(card, **short))
    for _ in range(2):
        with pytest.raises(openai.InternalServerError, match="out of memory"):
            server.client().completions.create(model="", prompt=[5, 9], max_tokens=1)
    assert health(server)[0] == 200
    assert server.stop()[0] == 0


@pytest.mark.parametrize("kv", ["f16", "q8_0,f32"])
def test_session_moves(card, tiny, kv):
    """A session saved on one device goes on on the other, from its cache."""
    options = "--kv", kv, "--ignore-eos", "-n", 5, "--temperature", 0, "--context", 256
    said = []
    for first, then in ("cuda", "cpu"), ("cpu", "cuda"):
        card("chat", tiny, *options, "--device", first, stdin=f"a long message of forty tokens\n/save {first}.talk\n/exit\n")
        r = card("chat", tiny, *options, "--device", then, "--resume", f"{first}.talk", stdin="more\n/stats\n/exit\n")
        assert "computed again" not in r.stderr
        assert int(re.search(r"\((\d+) from the cache\)", r.stdout)[1]) > 40, r.stdout
        said.append(r.stdout.splitlines()[0])
    assert said[0] == said[1] and said[0]


def test_missing(card, tiny):
    plan = json.loads(card("plan", tiny, "-ngl", 1, "--json").stdout)
    parts = plan["parts"]
    assert [p["device"] for p in parts] == ["cpu", "cuda:0"] and parts[1]["layers"] == 1
    assert 0 < plan["decode_tokens_per_second_predicted"] < 1e12 / parts[1]["weights_bytes"] and plan["decode_tokens_per_second_bound"] is None
    plan = json.loads(card("plan", tiny, "--device", "cuda:0,0", "--json").stdout)
    parts = plan["parts"]
    assert [p["shared"] for p in parts] == [True, True] and parts[0]["available_bytes"] < 1 << 29
    assert plan["decode_tokens_per_second_predicted"] == pytest.approx(5e11 / max(p["weights_bytes"] for p in parts), rel=1e-3)
    assert "there are devices 0 to 0" in card("plan", tiny, "--device", "cuda:1", code=1).stderr
    assert "not of this build" in card("plan", tiny, "--device", "cuda", code=1, env={"INGOT_EMULATED_OLD": "1"}).stderr
    card("plan", tiny, "--device", "cuda:x", code=2)
    card("logits", tiny, "--device", "cuda", "--reference", "--tokens", "tokens.json", "--out", "out.npy", code=2)
    if shutil.which("nvidia-smi"):
        return
    r = ingot("plan", tiny, "--device", "cuda")
    assert r.returncode == 1 and "libcuda.so.1 is not installed" in r.stderr
