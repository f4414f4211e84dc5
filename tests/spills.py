#!/usr/bin/env python3
"""Counts vector registers that the hot loops keep on the stack, in the objects of a gcc release build.

    tests/spills.py [BUILD] [--list]        default: build

The kernels' tiles are sized for the register file; a change that makes gcc 12 spill an accumulator halves a kernel's speed and
breaks nothing else. So every innermost loop with dot products is read from the disassembly, and the vector loads and stores
whose address is the stack pointer or the frame pointer are counted, for each 100 dot products of the loop. Broadcasts of single
values do not count. Nor may a loop store what a dot product has just summed: a tile that was not unrolled lives in memory. LIMITS lists the
functions whose loops have some; all others may have none. Loops of AMX may touch no memory but for their tiles, and those with two
by two sums take at most one tile load for each dot product. --list prints what is there."""
import fnmatch, os, pathlib, re, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = ["avx512/many.c", "avx512/panel_bf16.c", "avx512/attend16.c", "avx512/few.c", "avx512/few_iq.c", "avx512/nibble.c", "avx2/table.c", "avx2/few.c"]
TILE_FILE, TILE_DOTS = "amx/panel.c", 4  # two by two sums
DOTS_LEAST = 8  # fewer: the end of a row
LIMITS = [  # accesses for 100 dot products; the first that fits
    ("avx512/many.c *", 3),  # constants of the start values
    ("avx512/few.c *_iq[23]_*", 175),  # signs and indices of the codes pass through memory
    *((f"avx512/few.c *_{t}", 75) for t in ("mxfp4", "nvfp4", "q1_0", "q2_0")),  # the decoder's constants, beside eight rows' sums
    ("avx512/few.c *", 38),
    ("avx512/few_iq.c *", 490),
    ("avx512/nibble.c *", 25),  # behind a weight row four rows' sums are put by until there are 16
    *((f"avx2/table.c many_{t}", 25) for t in ("q2_k", "q3_k", "q6_k", "iq2_s", "iq2_xs", "iq1_m", "nvfp4")),  # groups of 16
    ("avx2/table.c few_*", 13),
    ("avx2/few.c *", 77),  # four rows and a decoded block need more than 16 registers
]
DOTS = re.compile(r"vpdpbusd|vpdpwssd|vdpbf16ps|vpmaddwd|vpmaddubsw")
LINE = re.compile(r"^ *([0-9a-f]+):\t(\S+) *(.*)$")


def functions(path):
    """{name: [(address, mnemonic, operands)]}"""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True).stdout
    found, name = {}, None
    for line in text.splitlines():
        head = re.match(r"^[0-9a-f]+ <(.+)>:$", line)
        if head:
            name = head[1]
            found[name] = []
        elif name and (m := LINE.match(line)):
            found[name].append((int(m[1], 16), m[2], m[3]))
    return found


def innermost(code):
    """Loops (first address, last address) that hold no other, from the jumps that go back."""
    ends = {}
    for at, mnemonic, operands in code:
        target = re.match(r"([0-9a-f]+) <", operands)
        if mnemonic.startswith("j") and target and code[0][0] <= int(target[1], 16) <= at:
            first = int(target[1], 16)
            ends[first] = max(ends.get(first, 0), at)
    loops = list(ends.items())
    return [(a, z) for a, z in loops if not any((b, y) != (a, z) and a <= b and y <= z for b, y in loops)]


def stored_sums(body):
    """Stores of a register that the dot product before it has written."""
    count, sums = 0, set()
    for mnemonic, operands in body:
        registers = re.findall(r"%[xyz]mm\d+", operands)
        if operands.endswith(")") and mnemonic.startswith("vmov") and registers and registers[0] in sums:
            count += 1
        if registers and operands.endswith(registers[-1]):
            (sums.add if mnemonic.startswith("vpdp") or mnemonic.startswith("vdp") else sums.discard)(registers[-1])
    return count


def spills(code):
    """[(accesses, dots, address, stored sums)] of the innermost loops with dot products."""
    frame = any(m in ("mov", "lea") and o.endswith(",%rbp") and "%rsp" in o for _, m, o in code)
    stack = re.compile(r"\((%rsp|%rbp)" if frame else r"\((%rsp)")
    out = []
    for first, last in innermost(code):
        body = [(m, o) for at, m, o in code if first <= at <= last]
        dots = sum(bool(DOTS.match(m)) for m, _ in body)
        if dots:
            out.append((sum(bool(re.search(r"%[xyz]mm", o) and stack.search(o) and "broadcast" not in m and "{1to" not in o) for m, o in body), dots, first,
                        stored_sums(body)))
    return out


def tile_faults(functions):
    """[words] on the loops with dot products of tiles, and how many there are."""
    bad, dots_most, count = [], 0, 0
    for name, code in functions.items():
        for first, last in innermost(code):
            body = [(m, o) for at, m, o in code if first <= at <= last]
            dots, loads = (sum(m.startswith(word) for m, _ in body) for word in ("tdpbf16ps", "tileload"))
            if not dots or body[-1][0] == "jmp":  # that is no loop, but the way back from code that was put behind the rest
                continue
            count, dots_most = count + 1, max(dots, dots_most)
            others = sum("(" in o and not m.startswith(("tile", "lea", "nop", "j")) for m, o in body)
            if others or (dots >= TILE_DOTS and loads > dots):
                bad.append(f"{name}: {loads} tile loads and {others} other accesses to memory in the loop with {dots} dot products at {first:#x}")
    return bad + ([] if dots_most >= TILE_DOTS else [f"no loop has {TILE_DOTS} dot products of tiles"]), count


def most(pattern_table, file, name):
    return next((limit for pattern, limit in pattern_table if fnmatch.fnmatch(f"{file} {name}", pattern)), 0)


def known(build):
    """Whether the limits hold for this build: gcc 12, optimised, x86-64."""
    try:
        cache = (build / "CMakeCache.txt").read_text()
        compiler = next(build.glob("CMakeFiles/*/CMakeCCompiler.cmake")).read_text()
    except (OSError, StopIteration):
        sys.exit(f"tests/spills.py: {build} is no build folder")
    return ("CMAKE_BUILD_TYPE:STRING=Release" in cache and 'COMPILER_ID "GNU"' in compiler and 'COMPILER_VERSION "12.' in compiler
            and os.uname().machine == "x86_64" and "CMAKE_CROSSCOMPILING" not in cache)


def main():
    build = pathlib.Path(next((a for a in sys.argv[1:] if not a.startswith("-")), ROOT / "build"))
    if not known(build):
        print("[SKIP] spills: no release build of gcc 12 for x86-64")
        return
    loops, bad = 0, 0
    for file in FILES:
        here = 0
        for name, code in functions(build / "CMakeFiles/ingot_objects.dir/kernels/cpu" / (file + ".o")).items():
            all_loops = spills(code)
            for _, dots, at, stored in all_loops:
                if stored:
                    bad += 1
                    print(f"{file} {name}: {stored} sums of {dots} dot products lie in memory in the loop at {at:#x}")
            found = [(-(-100 * count // dots), count, dots, at) for count, dots, at, _ in all_loops if dots >= DOTS_LEAST]
            here += len(found)
            limit = most(LIMITS, file, name)
            for share, count, dots, at in [max(found)] if found else []:
                if "--list" in sys.argv or share > limit:
                    print(f"{file} {name}: {count} vector loads and stores on the stack in the loop with {dots} dot products at {at:#x}: {share} for 100, "
                          f"{limit} are known")
                bad += share > limit
        if not here:
            bad += 1
            print(f"{file}: no loop with dot products was found")
        loops += here
    faults, tile_loops = tile_faults(functions(build / "CMakeFiles/ingot_objects.dir/kernels/cpu" / (TILE_FILE + ".o")))
    for fault in faults:
        print(f"{TILE_FILE} {fault}")
    bad, loops = bad + len(faults), loops + tile_loops
    print(f"spills: {loops} hot loops read, {bad} worse than listed")
    sys.exit(bad > 0)


main()
