"""Models with recurrent layers on the emulated card: whole, in pieces, over two ranks, with parts on the CPU."""
import json
import numpy as np
import pytest
from conftest import rel
from test_recurrent import CONFIGS, IDS, write


def run(card, model, *options, **more):
    (card.folder / "recurrent.json").write_text(json.dumps(IDS))
    card("logits", model, "--tokens", "recurrent.json", "--out", "recurrent.npy", *options, **more)
    return np.load(card.folder / "recurrent.npy")


@pytest.mark.parametrize("kind", CONFIGS)
def test_on_a_card(kind, card, tmp_path):
    model = write(tmp_path, kind)
    expected = run(card, model, "--reference")
    for devices in (("--device", "cuda"), ("--device", "cuda", "--chunk", 1), ("--device", "cuda", "--chunk", 7, "--deterministic"), ("--device", "cuda:0,0"),
                    ("--cpu-ffn", 1), ("--gpu-layers", 1)):
        got = run(card, model, "--kv", "f32", *devices)
        assert rel(got, expected) < 1e-4, (devices, rel(got, expected))
    if kind != "lfm2":  # has convolutions alone
        chunks = run(card, model, "--kv", "f32", "--device", "cuda", env={"INGOT_CUDA_TUNE": "scan_rows=4"})
        assert rel(chunks, expected) < 1e-4 and (chunks != run(card, model, "--kv", "f32", "--device", "cuda")).any()
    plan = json.loads(card("plan", model, "--device", "cuda", "--json").stdout)
    assert not plan.get("fallbacks"), plan["fallbacks"]


@pytest.mark.parametrize("kernel", ["conv", "scan_rows_64", "norm"])
def test_what_a_card_lacks(kernel, card, tmp_path):
    """A layer's state is kept in one place."""
    model = write(tmp_path, "next")
    expected = run(card, model, "--reference")
    got = run(card, model, "--kv", "f32", "--device", "cuda", env={"INGOT_EMULATED_WITHOUT": kernel})
    assert rel(got, expected) < 1e-4
