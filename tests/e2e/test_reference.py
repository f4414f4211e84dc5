"""The default model against Hugging Face transformers: tests/reference/smollm2.json holds what transformers answered in float32
with the same weights (tests/reference/record.py). INGOT_REFERENCE_ALL=1 runs all answers through the naive path: minutes."""
import json, os, threading
import numpy as np
import pytest
from conftest import ROOT, ingot

RECORD = json.loads((ROOT / "tests" / "reference" / "smollm2.json").read_text(encoding="utf-8"))
CASES = RECORD["cases"]
ALL = bool(os.environ.get("INGOT_REFERENCE_ALL"))
SURE = 1e-3       # the float32 paths may part where transformers' own best token led by less
MARGIN = 0.6      # the fast path finds a best token that led by more


@pytest.fixture(scope="module")
def converted(default_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference") / "smollm2"
    r = ingot("convert", default_model, folder, "--to", "safetensors", "--type", "f32", timeout=300)
    assert r.returncode == 0, r.stderr
    return str(folder)


def test_prompts_are_the_same_ids(default_model, converted):
    for model in (default_model, converted):
        requests = "\n".join(json.dumps({"messages": [{"role": "user", "content": c["prompt"]}], "add_generation_prompt": True}) for c in CASES)
        texts = [json.loads(line)["text"] for line in ingot("template", model, "--jsonl", stdin=requests).stdout.splitlines()]
        lines = "\n".join(json.dumps({"text": t, "add_special": False, "parse_special": True}) for t in texts)
        ids = [json.loads(line) for line in ingot("tokenize", model, "--jsonl", stdin=lines).stdout.splitlines()]
        assert ids == [c["ids"] for c in CASES]
        first = ingot("tokenize", model, "--parse-special", "--no-special", texts[0])
        assert json.loads(first.stdout) == CASES[0]["ids"]


def answers(model, cases, folder):
    file = folder / f"{len(cases)}.json"
    file.write_text(json.dumps([c["ids"] for c in cases]))
    r = ingot("run", model, "--tokens", file, "-n", 48 if ALL else 24, "--temperature", 0, "--json", "--reference", timeout=1800)
    assert r.returncode == 0, r.stderr
    return [json.loads(line)["tokens"] for line in r.stdout.splitlines()]


def test_reference_path_gives_the_same_answers(default_model, converted, tmp_path):
    got, picked = {}, {"gguf": CASES if ALL else CASES[3:15:2], "folder": CASES if ALL else CASES[13:16]}
    models = {"gguf": default_model, "folder": converted}
    for name in models:
        (tmp_path / name).mkdir()
    threads = [threading.Thread(target=lambda n=n: got.update({n: answers(models[n], picked[n], tmp_path / n)})) for n in models]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for name, cases in picked.items():
        assert len(got[name]) == len(cases)
        for c, tokens in zip(cases, got[name]):
            wanted = c["tokens"][:-1] if c["tokens"][-1] in RECORD["ends"] else c["tokens"]  # ingot leaves the end of turn out
            if tokens[-1:] == c["tokens"][-1:] and c["tokens"][-1] in RECORD["ends"]:
                tokens = tokens[:-1]
            sure = next((i for i, m in enumerate(c["margins"]) if m < SURE), len(wanted))
            sure = min(sure, 48 if ALL else 24)
            assert tokens[:sure] == wanted[:sure], (name, c["prompt"])


# Quantised prompts have 16 bits of their activations beside outliers, 8 elsewhere: leads move by 0.07. With int8 alone (a scale for
# every 32) they moved by 0.16 in ours and by 0.157 with the same rounding put into transformers, and one token that leads by 0.96 was
# missed. Plain floats are multiplied as they are: 0.002.
@pytest.mark.parametrize("form, spread", [("gguf", 0.11), ("folder", 0.02)])
def test_fast_path_finds_the_same_best_tokens(form, spread, default_model, converted, tmp_path):
    (tmp_path / "ids.json").write_text(json.dumps([c["ids"] + c["tokens"] for c in CASES]))
    r = ingot("logits", default_model if form == "gguf" else converted, "--tokens", tmp_path / "ids.json", "--out", tmp_path / "out.npy", timeout=600)
    assert r.returncode == 0, r.stderr
    logits, at, missed, moved, close, sure = np.load(tmp_path / "out.npy", mmap_mode="r"), 0, [], [], 0, 0
    for c in CASES:
        for i, (token, margin) in enumerate(zip(c["tokens"], c["margins"])):
            row = logits[at + len(c["ids"]) - 1 + i]
            lead = float(row[token] - max(row[:token].max(initial=-np.inf), row[token + 1:].max(initial=-np.inf)))
            moved.append(lead - margin)
            sure += margin > MARGIN
            missed += [margin] if margin > MARGIN and lead < 0 else []
            close += margin <= MARGIN and lead < 0
        at += len(c["ids"]) + len(c["tokens"])
    print(f"{form}: {len(missed)} of {sure} sure tokens missed {missed}, {close} of the others; leads moved by {np.std(moved):.3f}, at most {np.abs(moved).max():.3f}")
    assert sure > 400 and not missed and np.std(moved) < spread
