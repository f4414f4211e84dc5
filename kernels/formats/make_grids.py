#!/usr/bin/env python3
"""Writes grids.def from the codebooks of the gguf package (pip install gguf): the set of each grid's points, a bit per
possible point, as grids.h says.

  make_grids.py > grids.def"""
from gguf import quants

GRIDS = {"iq1_s": (quants.IQ1_S, 3, 1), "iq2_xxs": (quants.IQ2_XXS, 3, 2), "iq2_xs": (quants.IQ2_XS, 3, 2), "iq2_s": (quants.IQ2_S, 3, 2),
         "iq3_xxs": (quants.IQ3_XXS, 8, 1), "iq3_s": (quants.IQ3_S, 8, 1)}
print("/* Written by make_grids.py: the points of every grid (grids.h).\n"
      " * GRID(name, points, weights of a point, base of the number, step: bit i stands for number i * step, words of the set) */")
for name, (source, base, step) in GRIDS.items():
    source.init_grid()
    points = source.grid.reshape(source.grid_shape).astype(int)
    values = sorted(set(points.flat))
    numbers = [sum(values.index(v) * base**j for j, v in enumerate(p)) for p in points]
    assert len(values) == base and numbers == sorted(set(numbers)) and all(n % step == 0 for n in numbers)
    bits = sum(1 << n // step for n in numbers)
    words = [bits >> 64 * i & (1 << 64) - 1 for i in range(bits.bit_length() // 64 + 1)]
    print(f"GRID({name}, {len(points)}, {points.shape[1]}, {base}, {step},")
    lines = [", ".join(f"0x{w:x}" for w in words[i:i + 6]) for i in range(0, len(words), 6)]
    print("     " + ",\n     ".join(lines) + ")")
