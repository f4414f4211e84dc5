#!/usr/bin/env python3
"""The relative errors of rows of logits: bench/logits_error.py EXPECTED.npy GOT.npy BOUND. Exit 1 where one is not below BOUND.

Reads what `ingot logits --out` writes; needs Python alone."""
import array, ast, math, sys


def read(path):
    with open(path, "rb") as f:
        head = f.read(10)
        rows, width = ast.literal_eval(f.read(int.from_bytes(head[8:], "little")).decode())["shape"]
        values = array.array("f", f.read())
    return [values[i * width:(i + 1) * width] for i in range(rows)]


def error(expected, got):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(expected, got, strict=True)) / sum(x * x for x in expected))


errors = [error(*rows) for rows in zip(read(sys.argv[1]), read(sys.argv[2]), strict=True)]
print(" ".join(f"{e:.1e}" for e in errors))
sys.exit(not errors or not all(e < float(sys.argv[3]) for e in errors))
