#!/usr/bin/env python3
"""Is bench/results/cuda-kernels.txt of these kernels? Compares build/cuda-report.txt (the target cuda_report) with it, as far as both go:
the test preset compiles for some of the cards, and not every machine has a disassembler."""
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def read(path):
    """{(title, kernel, column): what stands there}; columns are aligned on the right"""
    cells, columns = {}, None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.endswith("-report."):
            title = line
        elif line.startswith("kernel "):
            ends = [22] + [i for i in range(23, len(line) + 1) if line[i - 1] != " " and line[i:i + 2] in ("", "  ")]
            columns = [(line[a:b].strip(), a, b) for a, b in zip(ends, ends[1:])]
        elif columns and line[:22].strip() and " " not in line[:22].strip():
            cells |= {(title, line[:22].strip(), name): line[a:b].strip() for name, a, b in columns}
    return cells


def parts(cells):
    return {(title, name) for title, _, name in cells}


new, old = read(ROOT / "build/cuda-report.txt"), read(ROOT / "bench/results/cuda-kernels.txt")
both = parts(new) & parts(old)
differ = sorted({kernel for title, kernel, name in new.keys() | old.keys()
                 if (title, name) in both and new.get((title, kernel, name)) != old.get((title, kernel, name))})
print(f"kernels: {len({k for _, k, _ in new})} in {len(both)} columns as in bench/results/cuda-kernels.txt" if both and not differ else
      f"bench/results/cuda-kernels.txt is of other kernels, or of another nvcc ({len(differ)} differ: {' '.join(differ[:5])} ...): "
      "`cmake --preset release && cmake --build --preset release --target cuda_report` and copy build/cuda-report.txt there")
