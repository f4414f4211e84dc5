#!/usr/bin/env python3
"""Reads every #include "..." and fails on an arrow against docs (design): base <- kernels <- models <- runtime <- agent, and
base <- tokenizers <- runtime. Of another folder only its one public header may be included."""
import os, re, sys

ALLOWED = {"base": {"base"}, "kernels": {"base", "kernels"}, "models": {"base", "kernels", "models"}, "tokenizers": {"base", "tokenizers"},
           "runtime": {"base", "kernels", "models", "tokenizers", "runtime"},
           "agent": {"base", "kernels", "models", "tokenizers", "runtime", "agent"}}
PUBLIC = {"kernels": {"kernels/ops.h"}, "models": {"models/model.h"}, "tokenizers": {"tokenizers/tokenizers.h"}, "runtime": {"runtime/ingot.h"}}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    wrong = []
    for folder in ALLOWED:
        for path, _, names in os.walk(os.path.join(root, folder)):
            for name in names:
                if not name.endswith((".c", ".h")):
                    continue
                file = os.path.relpath(os.path.join(path, name), root)
                for target in INCLUDE.findall(open(os.path.join(root, file), encoding="utf-8").read()):
                    other = target.split("/")[0]
                    if other not in ALLOWED:      # beside the file itself
                        continue
                    if other not in ALLOWED[folder]:
                        wrong.append(f"{file} includes {target}: {folder} must not know {other}")
                    elif other != folder and other in PUBLIC and target not in PUBLIC[other] and not target.endswith(".def"):
                        wrong.append(f"{file} includes {target}, which is private to {other}")
    print("\n".join(wrong) if wrong else "arrows: every include follows the design")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
