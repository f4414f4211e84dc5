#!/usr/bin/env python3
"""Random texts through `ingot tokenize` and `ingot detokenize` beside the packages that published tokenizers are made with.

  fuzz_tokenizers.py [--ingot P] [--count N] [--seed S] FILE ...

FILE: a tokenizer.json (or its folder), judged by `tokenizers`; a tokenizer.model, judged by `sentencepiece` or, if it is lines of
base64, left out; a tekken.json, judged by `mistral_common`. Texts: ASCII, every plane of Unicode, look-alikes of the file's own special
tokens, long runs, and bytes that are not UTF-8 (only that nothing fails and, where the vocabulary holds bytes, that none is lost).
Prints what differs; exit status 1 if anything does."""
import argparse, base64, json, os, random, subprocess, sys

BITS = ["'s", "'LL", "'re", "don't", "'\u017f", " ", "  ", "    ", "\n", "\n\n", "\r\n", "\t", " \n", "\u00a0", "\u3000", "\u0085", "\u200b", "\u2028", "1", "12", "1234567",
        "Hello", "world", "HTTPServer", "fooBar", "...", "->", "==", "((", "_", "$1.5", "\u00e9", "e\u0301", "o\u0302\u0323", "\u4e2d\u6587", "\u3042", "\u304b\u3099",
        "\ud55c\uad6d", "\u1112\u1161\u11ab", "\U0001f642", "\u200d", "\ufe0f", "<", ">", "|", "</s>", "<unk>", "[CLS]", "\u2581", "\u0130", "\ufb01", "\u2167", "\u00bd",
        "\ufffd", "\0", "\x7f", "\u0e33", "\u0915\u094d\u0937", "\U0001f1e9\U0001f1ea", "\u1c89"]


def any_character(rng):
    while True:
        c = rng.choice((rng.randrange(0x20, 0x7F), rng.randrange(0x80, 0x800), rng.randrange(0x800, 0x3400), rng.randrange(0x3400, 0x10000),
                        rng.randrange(0x10000, 0x20000), rng.randrange(0x20000, 0x110000)))
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def random_text(rng, own):
    kind = rng.randrange(7)
    if kind == 0:
        return "".join(chr(rng.randrange(0x20, 0x7F)) for _ in range(rng.randrange(60)))
    if kind == 1:
        start = rng.randrange(0x1100) * 0x100
        return "".join(chr(c) for c in (start + rng.randrange(0x100) for _ in range(rng.randrange(1, 30))) if not 0xD800 <= c < 0xE000)
    if kind == 2:
        return "".join(rng.choice(BITS) for _ in range(rng.randrange(1, 25)))
    if kind == 3:
        return rng.choice(BITS) + rng.choice(BITS) * rng.randrange(10, 300) + rng.choice(BITS)
    if kind == 4 and own:
        parts = [rng.choice(own) if rng.random() < 0.4 else rng.choice(BITS) for _ in range(rng.randrange(1, 8))]
        text = "".join(parts)
        return text[:rng.randrange(len(text) + 1)] if rng.random() < 0.3 else text
    if kind == 5:
        return "".join(rng.choice(BITS) if rng.random() < 0.5 else any_character(rng) for _ in range(rng.randrange(1, 30)))
    return "".join(any_character(rng) for _ in range(rng.randrange(1, 30)))


class Package:
    """tokenizer.json"""

    def __init__(self, path):
        import tokenizers
        with open(path, encoding="utf-8") as f:
            self.file = json.load(f)
        self.t = tokenizers.Tokenizer.from_str(json.dumps(self.file))
        self.t.no_truncation()
        self.t.no_padding()
        self.own = [t["content"] for t in self.file.get("added_tokens") or []]
        self.special = {t["id"] for t in self.file.get("added_tokens") or [] if t["special"]}
        self.control = self.special if isinstance(self.file["model"]["vocab"], list) else set()
        self.bytes_fall_back = self.file["model"].get("byte_fallback")

    def encode(self, text, parse):
        self.t.encode_special_tokens = not parse
        ids = self.t.encode(text, add_special_tokens=False).ids
        return None if not parse and self.control & set(ids) else ids  # the package makes special tokens of Unigram's plain text

    def decode(self, ids):
        return None if self.bytes_fall_back else self.t.decode(ids, skip_special_tokens=False)  # whose broken runs differ on purpose


class Pieces:
    """tokenizer.model"""
    own = ["<s>", "</s>", "<unk>", "[INST]"]

    def __init__(self, path):
        import sentencepiece
        self.t = sentencepiece.SentencePieceProcessor(model_file=path)

    def encode(self, text, parse):
        return None if parse else self.t.encode(text)

    def decode(self, ids):
        return None if any(self.t.is_unknown(i) or self.t.is_control(i) or self.t.is_byte(i) for i in ids) else self.t.decode(ids)


class Tekken:
    """tekken.json"""
    own = ["<s>", "</s>", "[INST]", "<SPECIAL_20>"]

    def __init__(self, path):
        from mistral_common.tokens.tokenizers.tekken import Tekkenizer
        self.t = Tekkenizer.from_file(path)

    def encode(self, text, parse):
        return None if parse else self.t.encode(text, bos=False, eos=False)

    def decode(self, ids):
        return self.t.decode(ids)


def judge_of(path):
    if os.path.isdir(path):
        path = os.path.join(path, "tokenizer.json")
    if path.endswith("tekken.json"):
        return path, Tekken(path)
    if path.endswith(".model"):
        with open(path, "rb") as f:
            return path, Pieces(path) if f.read(1) == b"\n" else None
    return path, Package(path)


def ask(ingot, command, path, lines):
    r = subprocess.run([ingot, command, path, "--jsonl"], input="".join(json.dumps(x) + "\n" for x in lines).encode(), capture_output=True)
    if r.returncode not in (0, 1):
        sys.exit(f"{path}: {command}: exit status {r.returncode}: {r.stderr.decode(errors='replace')[-300:]}")
    return [json.loads(x) for x in r.stdout.decode().split("\n") if x]


def run(ingot, path, judge, count, rng):
    cases, wrong = [], 0
    while len(cases) < count:
        parse = rng.random() < 0.3
        text = random_text(rng, judge.own)
        ids = judge.encode(text, parse)
        if ids is None and parse:
            continue
        cases.append((text, parse, ids))
    got = ask(ingot, "tokenize", path, [{"text": t, "add_special": False, "parse_special": p} for t, p, _ in cases])
    for (text, parse, ids), answer in zip(cases, got):
        if ids is not None and answer != ids:
            wrong += 1
            if wrong <= 5:
                print(f"  tokenize {ascii(text)} parse_special={parse}\n    expected {ids}\n    got      {answer}")
    decoded = [(ids, judge.decode(ids)) for _, _, ids in cases if ids]
    decoded = [(ids, text) for ids, text in decoded if text is not None]
    for (ids, text), answer in zip(decoded, ask(ingot, "detokenize", path, [{"ids": ids, "keep_special": True} for ids, _ in decoded])):
        if answer.get("text") != text and "\ufffd" not in text:
            wrong += 1
            if wrong <= 5:
                print(f"  detokenize {ids}\n    expected {ascii(text)}\n    got      {ascii(answer)}")
    raw = [bytes(rng.randrange(256) for _ in range(rng.randrange(1, 40))) for _ in range(count // 10)]
    broken = [a for a in ask(ingot, "tokenize", path, [{"base64": base64.b64encode(b).decode()} for b in raw]) if not isinstance(a, list)]
    wrong += len(broken)
    for answer in broken[:2]:
        print("  bytes:", answer)
    return len(cases) + len(decoded) + len(raw), wrong


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("files", nargs="+"), p.add_argument("--ingot", default="build/ingot")
    p.add_argument("--count", type=int, default=10000), p.add_argument("--seed", default="1")
    a = p.parse_args()
    failed = 0
    for file in a.files:
        path, judge = judge_of(file)
        if not judge:
            print(f"left out: {path}")
            continue
        cases, wrong = run(a.ingot, path, judge, a.count, random.Random(f"{os.path.basename(os.path.dirname(path))} {a.seed}"))
        failed += wrong
        print(f"{'FAIL' if wrong else 'ok  '} {path}: {cases - wrong} of {cases}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
