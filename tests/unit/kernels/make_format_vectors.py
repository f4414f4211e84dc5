#!/usr/bin/env python3
"""Writes format_vectors.h: random blocks of every storage format and the values that independent decoders (numpy,
float64, from the project's quantisation goldens; the gguf package is asked too and agrees) read from them. The package
has neither Q1_0 nor Q2_0, the goldens have no Q2_0: its decoder is below.

  make_format_vectors.py path/to/make_quant_goldens.py > format_vectors.h
"""
import importlib.util
import sys
import textwrap

import gguf
import numpy as np

spec = importlib.util.spec_from_file_location("goldens", sys.argv[1])
goldens = importlib.util.module_from_spec(spec)
spec.loader.exec_module(goldens)


def show(line):
    print(textwrap.fill(line, 128))


def q2_0(b):
    return goldens.f16(b[:, :2]) * (goldens.bits_of(b[:, 2:], 2).swapaxes(1, 2).reshape(-1, 64) - 1)


def iq1_m_scale(data, halves):
    """f16 d lies in the upper nibbles of the last four u16"""
    u = data[:, 48:].view("<u2")
    u[:] = u & 0xFFF | (halves.view("<u2")[:, None] >> 4 * np.arange(4, dtype=np.uint16) & 15) << 12


# format: (bytes of a block, blocks, decoder, offsets of half floats)
FORMATS = {"Q4_0": (18, 2, goldens.q4_0, [0]), "Q4_1": (20, 2, goldens.q4_1, [0, 2]), "Q5_0": (22, 2, goldens.q5_0, [0]),
           "Q5_1": (24, 2, goldens.q5_1, [0, 2]), "Q8_0": (34, 2, goldens.q8_0, [0]), "Q2_K": (84, 1, goldens.q2_k, [80, 82]),
           "Q3_K": (110, 1, goldens.q3_k, [108]), "Q4_K": (144, 1, goldens.q4_k, [0, 2]),
           "Q5_K": (176, 1, goldens.q5_k, [0, 2]), "Q6_K": (210, 1, goldens.q6_k, [208]),
           "IQ4_NL": (18, 2, goldens.iq4_nl, [0]), "IQ4_XS": (136, 1, goldens.iq4_xs, [0]),
           "IQ2_XXS": (66, 1, goldens.iq2_xxs, [0]), "IQ2_XS": (74, 1, goldens.iq2_xs, [0]), "IQ2_S": (82, 1, goldens.iq2_s, [0]),
           "IQ3_XXS": (98, 1, goldens.iq3_xxs, [0]), "IQ3_S": (110, 1, goldens.iq3_s, [0]), "IQ1_S": (50, 1, goldens.iq1_s, [0]),
           "IQ1_M": (56, 1, goldens.iq1_m, []), "TQ1_0": (54, 1, goldens.tq1_0, [52]), "TQ2_0": (66, 1, goldens.tq2_0, [64]),
           "MXFP4": (17, 3, goldens.mxfp4, []), "NVFP4": (36, 2, goldens.nvfp4, []), "Q1_0": (18, 1, goldens.q1_0, [0]),
           "Q2_0": (18, 2, q2_0, [0])}
random = np.random.default_rng(20)
print("/* Written by make_format_vectors.py: blocks and what independent decoders read from them. */")
for name, (size, blocks, decode, halves) in FORMATS.items():
    data = random.integers(0, 256, (blocks, size), dtype=np.uint8)
    for at in halves:
        data[:, at:at + 2] = random.normal(0, 0.1, blocks).astype("<f2").view(np.uint8).reshape(blocks, 2)
    if name == "IQ1_M":
        iq1_m_scale(data, random.normal(0, 0.1, blocks).astype("<f2"))
    if name == "MXFP4":
        data[:, 0] = [0, 250, 124]
    if name == "NVFP4":
        data[0, :4], data[1, :4] = [0, 0x7F, 0x03, 0x7E], [0x38, 0xB9, 0x08, 0x55]
    values = decode(data).reshape(-1)
    if name not in ("Q1_0", "Q2_0"):
        agreed = gguf.dequantize(data, gguf.GGMLQuantizationType[name]).reshape(-1)
        keep = np.repeat(data[:, :4] < 128, 16, axis=1).reshape(-1) if name == "NVFP4" else slice(None)  # ggml masks the sign, gguf does not
        np.testing.assert_allclose(agreed[keep], values[keep], rtol=1e-5, atol=1e-6)
    show(f"static const unsigned char {name}_bytes[] = {{{', '.join(map(str, data.reshape(-1)))}}};")
    show(f"static const float {name}_values[] = {{{', '.join(f'{v:.9g}' + ('f' if '.' in f'{v:.9g}' or 'e' in f'{v:.9g}' else '.0f') for v in values)}}};")
print("#define FORMAT_VECTORS(X) " + " ".join(f"X({name})" for name in FORMATS))
