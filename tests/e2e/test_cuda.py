"""The program on a CUDA device that is emulated (tests/emulated_card.c): all but the card's own library is what runs on a card."""
import json, os, pathlib, shutil, subprocess
import numpy as np
import pytest
from conftest import INGOT, ingot

EMULATED = pathlib.Path(INGOT).parent / "tests" / "emulated"
TOKENS = [[5, 9, 13, 2, 77, 3, 8, 1, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50], [7, 8, 9]]


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    """Runs the program beside the emulated library: the real one lies beside build/ingot."""
    folder = tmp_path_factory.mktemp("card")
    for file in (pathlib.Path(INGOT), EMULATED / "libingot-cuda.so", EMULATED / "libcuda.so.1"):
        shutil.copy(file, folder)
    (folder / "tokens.json").write_text(json.dumps(TOKENS))

    def run(*arguments, code=0):
        r = subprocess.run([folder / "ingot", *map(str, arguments)], capture_output=True, text=True, timeout=300, cwd=folder,
                           env=os.environ | {"LD_LIBRARY_PATH": str(folder)})
        assert r.returncode == code, r.stderr
        return r

    def logits(model, *arguments):
        run("logits", model, "--tokens", "tokens.json", "--out", "out.npy", *arguments)
        return np.load(folder / "out.npy")

    run.logits = logits
    return run


def test_logits(card, tiny):
    expected, got = card.logits(tiny, "--reference", "--kv", "f16"), card.logits(tiny, "--device", "cuda")
    assert np.linalg.norm(got - expected) < 1e-5 * np.linalg.norm(expected)
    assert (card.logits(tiny, "--device", "cuda", "--chunk", 7) == got).all()


@pytest.mark.parametrize("devices", [("--gpu-layers", 1), ("--device", "cuda:0,0"), ("--device", "cuda", "--gpu-layers", 1, "--chunk", 7)])
def test_split(card, tiny, devices):
    """Layers on the CPU and on the card; matrices shared out over two ranks on one card."""
    expected, got = card.logits(tiny, "--reference", "--kv", "f16"), card.logits(tiny, *devices)
    assert np.linalg.norm(got - expected) < (2e-2 if "--gpu-layers" in devices else 1e-5) * np.linalg.norm(expected)  # the CPU multiplies int8


def test_tokens(card, tiny):
    """Several sequences that leave one prompt share its blocks until they differ."""
    arguments = "run", tiny, "--tokens", "tokens.json", "--max-tokens", 3, "--temperature", 0, "--json"
    assert card(*arguments, "--device", "cuda", "--kv", "f32").stdout == card(*arguments, "--reference").stdout


def test_plan(card, tiny):
    plan = json.loads(card("plan", tiny, "--device", "cuda:0", "--json").stdout)
    assert plan["device"] == "cuda:0" and plan["available_bytes"] == 1 << 30 and plan["fits"]
    assert plan["decode_tokens_per_second_bound"] is None
    card("plan", tiny, "--device", "cuda", "--memory", 1000, code=5)
    assert json.loads(card("plan", tiny, "--json").stdout)["device"] == "cpu"


def test_missing(card, tiny):
    parts = json.loads(card("plan", tiny, "-ngl", 1, "--json").stdout)["parts"]
    assert [p["device"] for p in parts] == ["cpu", "cuda:0"] and parts[1]["layers"] == 1
    parts = json.loads(card("plan", tiny, "--device", "cuda:0,0", "--json").stdout)["parts"]
    assert [p["shared"] for p in parts] == [True, True] and parts[0]["available_bytes"] == 1 << 29
    assert "there are devices 0 to 0" in card("plan", tiny, "--device", "cuda:1", code=1).stderr
    card("plan", tiny, "--device", "cuda:x", code=2)
    card("logits", tiny, "--device", "cuda", "--reference", "--tokens", "tokens.json", "--out", "out.npy", code=2)
    if shutil.which("nvidia-smi"):
        return
    r = ingot("plan", tiny, "--device", "cuda")
    assert r.returncode == 1 and "libcuda.so.1 is not installed" in r.stderr
