"""Instruction sets agree: the perplexity of a fixed text, by every one that this processor has, and by AMX on emulated tiles
(tests/emulated_amx.c) where it has AVX-512."""
import json, os, pathlib, subprocess
from conftest import INGOT, ROOT

EMULATED = pathlib.Path(INGOT).parent / "tests" / "emulated" / "ingot_amx"
# 1016 tokens count. Seen: AVX-512 and AVX2 0.015 % apart, 0.1 % above the float path, AMX 0.07 % below it. On 4335 tokens AMX and
# AVX-512 are 0.05 % apart, but emulated tiles have no patience for as many.
TEXT = (ROOT / "LICENSE").read_text()
SHORT = TEXT[:2400]  # 127 tokens count, as many as the scalar kernels have patience for: 0.31 % seen
WITHIN, WITHIN_TILES, WITHIN_SHORT = 0.001, 0.002, 0.004


def instruction_sets():
    """{those that INGOT_ISA leaves as they are: the program that has them}, weakest first."""
    names = ["scalar", "neon", "avx2", "avx512", "avx512-vnni", "amx"]
    found = {}
    for program in [EMULATED] * EMULATED.exists() + [INGOT]:
        for n in names:
            said = subprocess.run([program, "--version"], env=os.environ | {"INGOT_ISA": n}, capture_output=True, text=True).stdout
            if said.split("instruction sets: ")[-1].split()[:1] == [n]:
                found[n] = program
    return found


def perplexity(program, model, isa, text, context):
    r = subprocess.run([program, "perplexity", model, "--text", "-", "--context", str(context), "--json"], input=text, env=os.environ | {"INGOT_ISA": isa},
                       capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)["perplexity"]


def agree(model, programs, text, context, within):
    found = {n: perplexity(program, model, n, text, context) for n, program in programs.items()}
    print(found)
    assert found and max(found.values()) < (1 + within) * min(found.values()), found


def test_vectors_agree(default_model):
    found = {n: p for n, p in instruction_sets().items() if n != "scalar"}
    agree(default_model, {n: p for n, p in found.items() if p != EMULATED}, TEXT, 256, WITHIN)
    agree(default_model, found, TEXT, 256, WITHIN_TILES)


def test_scalar_agrees(default_model):
    agree(default_model, instruction_sets(), SHORT, 256, WITHIN_SHORT)
