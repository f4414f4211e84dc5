#!/usr/bin/env python3
"""Writes format_vectors.h: random blocks of every storage format and the values that independent decoders (numpy,
float64, from the project's quantisation goldens) read from them.

  make_format_vectors.py path/to/make_quant_goldens.py > format_vectors.h
"""
import importlib.util
import sys

import numpy as np

spec = importlib.util.spec_from_file_location("goldens", sys.argv[1])
goldens = importlib.util.module_from_spec(spec)
spec.loader.exec_module(goldens)

# format: (bytes of a block, blocks, decoder, offsets of half floats)
FORMATS = {"Q4_0": (18, 2, goldens.q4_0, [0]), "Q4_1": (20, 2, goldens.q4_1, [0, 2]), "Q5_0": (22, 2, goldens.q5_0, [0]),
           "Q5_1": (24, 2, goldens.q5_1, [0, 2]), "Q8_0": (34, 2, goldens.q8_0, [0]), "Q2_K": (84, 1, goldens.q2_k, [80, 82]),
           "Q3_K": (110, 1, goldens.q3_k, [108]), "Q4_K": (144, 1, goldens.q4_k, [0, 2]),
           "Q5_K": (176, 1, goldens.q5_k, [0, 2]), "Q6_K": (210, 1, goldens.q6_k, [208]),
           "IQ4_NL": (18, 2, goldens.iq4_nl, [0]), "IQ4_XS": (136, 1, goldens.iq4_xs, [0])}
random = np.random.default_rng(20)
print("/* Written by make_format_vectors.py: blocks and what independent decoders read from them. */")
for name, (size, blocks, decode, halves) in FORMATS.items():
    data = random.integers(0, 256, (blocks, size), dtype=np.uint8)
    for at in halves:
        data[:, at:at + 2] = random.normal(0, 0.1, blocks).astype("<f2").view(np.uint8).reshape(blocks, 2)
    values = decode(data).reshape(-1)
    print(f"static const unsigned char {name}_bytes[] = {{{', '.join(map(str, data.reshape(-1)))}}};")
    print(f"static const float {name}_values[] = {{{', '.join(f'{v:.9g}' + ('f' if '.' in f'{v:.9g}' or 'e' in f'{v:.9g}' else '.0f') for v in values)}}};")
print("#define FORMAT_VECTORS(X) " + " ".join(f"X({name})" for name in FORMATS))
