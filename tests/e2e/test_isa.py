"""Instruction sets agree with the float path on a fixed text: every one that this processor has, and AMX on emulated tiles
(tests/emulated_amx.c) where it has AVX-512."""
import json, math, os, pathlib, subprocess
from conftest import INGOT, ROOT

EMULATED = pathlib.Path(INGOT).parent / "tests" / "emulated" / "ingot_amx"
TEXT = (ROOT / "LICENSE").read_text()
# Divergence from the scalar kernels, which multiply floats; nats per token. Seen, on 1016 tokens of a Q4_1 of 135M weights: AVX2
# 0.0013, AVX-512 VNNI 0.0016, AMX 0.0009. A bit less in an activation makes four times as much.
MOST_DIVERGENCE, LEAST_SAME_TOP = 0.0025, 0.95


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


def perplexity(program, model, isa, *options):
    r = subprocess.run([program, "perplexity", model, "--text", "-", "--context", "256", "--json", *options], input=TEXT, env=os.environ | {"INGOT_ISA": isa},
                       capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


def test_instruction_sets_agree(default_model, tmp_path):
    programs = instruction_sets()
    kept = tmp_path / "logits"
    perplexity(programs.pop("scalar"), default_model, "scalar", "--save-logits", kept)
    assert programs
    for name, program in programs.items():
        p = perplexity(program, default_model, name, "--kl-base", kept)
        print(name, p)
        divergence = p["kl"]["mean"]
        assert divergence < MOST_DIVERGENCE and p["same_top"] > LEAST_SAME_TOP, (name, p)
        # Errors without a bias move the mean of n tokens' logarithms by as much as sqrt(2 KL / n), one time in three by more: 0.17 %
        # here, 0.05 % for 6000 tokens. A path that is worse, and not just another, is further off.
        assert abs(p["ln_ratio"]) < 3 * math.sqrt(2 * divergence / p["scored_tokens"]), (name, p)
