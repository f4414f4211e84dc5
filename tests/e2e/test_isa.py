"""Instruction sets agree: the perplexity of a fixed text, by every one that this processor has."""
import json
from conftest import ROOT, ingot

TEXT = (ROOT / "LICENSE").read_text()  # 1016 tokens count; AVX-512 and AVX2 were seen 0.096 % apart
SHORT = TEXT[:2400]  # 127 tokens count, as many as the scalar kernels have patience for: 0.31 % seen
WITHIN, WITHIN_SHORT = 0.001, 0.004


def instruction_sets():
    """Those that INGOT_ISA leaves as they are, weakest first."""
    names = ["scalar", "neon", "avx2", "avx512", "avx512-vnni", "amx"]
    return [n for n in names if ingot("--version", env={"INGOT_ISA": n}).stdout.split("instruction sets: ")[-1].split()[:1] == [n]]


def perplexity(model, isa, text, context):
    r = ingot("perplexity", model, "--text", "-", "--context", context, "--json", stdin=text, env={"INGOT_ISA": isa}, timeout=300)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)["perplexity"]


def agree(model, names, text, context, within):
    found = {n: perplexity(model, n, text, context) for n in names}
    print(found)
    assert found and max(found.values()) < (1 + within) * min(found.values()), found


def test_vectors_agree(default_model):
    agree(default_model, [n for n in instruction_sets() if n != "scalar"], TEXT, 256, WITHIN)


def test_scalar_agrees(default_model):
    agree(default_model, instruction_sets(), SHORT, 256, WITHIN_SHORT)
