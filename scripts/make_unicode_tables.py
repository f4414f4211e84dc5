#!/usr/bin/env python3
"""Writes tokenizers/unicode_tables.def: where the `tokenizers` package's Unicode differs from the libraries' here.

The package is the truth for tokenizer.json, and it mixes versions: its regexes know Unicode 16, Rust's standard library
17, its normal forms and its punctuation stopped years ago. This script asks the package about every character and
compares with PCRE2 and utf8proc (through `probe`, a program built from scripts/unicode_probe.c).

    cc -O1 scripts/unicode_probe.c -o /tmp/probe -lutf8proc -lpcre2-8
    /tmp/probe | python3 scripts/make_unicode_tables.py > tokenizers/unicode_tables.def     needs the package `tokenizers`
"""
import struct
import sys
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So".split()
ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


# A precompiled_charsmap: bytes of its double array (darts-clone), the array, the texts.
UNITS = {0x61: 0x61 | 1 << 8 | (0x61 ^ 0x80) << 10}
A_TO_B = struct.pack("<257I", 1024, *(UNITS.get(i, 0) for i in range(256))) + b"b\0"


def ranges(characters):
    out = []
    for c in sorted(characters):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def removed_by(pre_tokenizer):
    gone = set()
    for i in range(0, len(ALL), 512):
        part = ALL[i:i + 512]
        kept = {ord(c) for piece, _ in pre_tokenizer.pre_tokenize_str("".join(map(chr, part))) for c in piece}
        gone |= set(part) - kept
    return gone


def table(name, characters):
    for low, high in ranges(characters):
        print(f"RANGE({name}, 0x{low:X}, 0x{high:X})")


def main():
    regex, category, combining, decomposed, lower, joined = {}, {}, {}, {}, {}, set()
    for line in sys.stdin:
        kind, *rest = line.split()
        if kind == "P":
            regex.setdefault(rest[0], set()).add(int(rest[1]))
        elif kind == "U":
            category[int(rest[1])] = rest[0]
        elif kind == "C":
            combining[int(rest[0])] = int(rest[1])
        elif kind == "J":
            joined.add(int(rest[0]))
        elif kind == "L":
            lower[int(rest[0])] = int(rest[1])
        else:
            decomposed[kind, int(rest[0])] = bytes.fromhex(rest[1]).decode()
    print("/* Made by scripts/make_unicode_tables.py; do not edit. RANGE(table, first, last), NEWER(property, members). */")

    # categories as the package's regexes have them, where utf8proc's differ
    of_package = {}
    for name in CATEGORIES:
        for c in removed_by(pre_tokenizers.Split(Regex("\\p{%s}" % name), "removed")):
            of_package[c] = name
    different = sorted(c for c in ALL if of_package.get(c, category[c]) != category[c])
    while different:
        count = 1
        while count < len(different) and different[count] == different[0] + count and of_package[different[count]] == of_package[different[0]]:
            count += 1
        print(f"CATEGORY(0x{different[0]:X}, 0x{different[count - 1]:X}, {of_package[different[0]].upper()})")
        different = different[count:]

    # properties of regexes: what the system's PCRE2 does not know yet
    for name in CATEGORIES + ["Han", "Alphabetic"]:
        truth = removed_by(pre_tokenizers.Split(Regex("\\p{%s}" % name), "removed"))
        members = "".join(f"\\\\x{{{a:X}}}" + (f"-\\\\x{{{b:X}}}" if b > a else "") for a, b in ranges(truth - regex.get(name, set())))
        if members:
            print(f'NEWER("{name}", "{members}")')

    # classes of characters
    of = lambda *names: {c for c in ALL if category[c] in names}
    digits = pre_tokenizers.Digits(individual_digits=True)
    table("newer_numeric", {c for c in ALL if len(digits.pre_tokenize_str("a" + chr(c) + "a")) == 3} - of("Nd", "Nl", "No"))
    ascii_punctuation = {c for c in range(128) if chr(c) in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"}
    ours = of("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po") | ascii_punctuation
    truth = removed_by(pre_tokenizers.Punctuation("removed"))
    table("newer_punctuation", ours - truth)
    table("former_punctuation", truth - ours)
    accents = {c for c in ALL if normalizers.StripAccents().normalize_str("a" + chr(c)) == "a"}
    table("newer_marks", of("Mn", "Mc", "Me") - accents)
    t = Tokenizer(models.BPE(vocab={"a": 0}, merges=[], unk_token="a"))
    t.add_tokens([AddedToken("XX", single_word=True, normalized=False)])
    word = {c for c in ALL if t.token_to_id("XX") not in t.encode("XX" + chr(c)).ids}
    letters = of("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "Pc") | {0x200C, 0x200D}
    table("more_word", word - letters)

    # normal forms: characters that the package takes as they are
    nfd, nfkd = normalizers.NFD(), normalizers.NFKD()
    behind = lambda c: nfd.normalize_str("a" + chr(c) + "\u0334") != "a" + chr(c) + "\u0334"  # it has a class above 1
    plain = {c for c in ALL if nfd.normalize_str(chr(c)) == chr(c) == nfkd.normalize_str(chr(c))}
    newer = {c for c in plain if ("D", c) in decomposed or ("K", c) in decomposed or (combining.get(c, 0) > 1 and not behind(c))}
    table("newer_forms", newer | {0x11930, 0x11935})  # these two would compose to U+11938

    # BERT's normalizer has tables of its own
    bert = lambda **what: normalizers.BertNormalizer(**{"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False, **what})
    gone = lambda n: {c for c in ALL if n.normalize_str("a" + chr(c) + "a") == "aa"}
    table("newer_other", of("Cc", "Cf", "Co") - gone(bert(clean_text=True)) - set(b"\t\n\r"))
    nonspacing = gone(bert(strip_accents=True))
    table("newer_nonspacing", of("Mn") - nonspacing)
    table("former_nonspacing", nonspacing - of("Mn"))

    # graphemes: what joins an "a" in front of it, asked by a map of "a" to "b", which takes what is joined away
    newer = {c for c in ALL if c >= 0x80 and normalizers.Precompiled(A_TO_B).normalize_str("a" + chr(c)) == "b"}
    table("newer_joined", newer - joined)

    for c in ALL:
        small = normalizers.Lowercase().normalize_str(chr(c))
        if len(small) == 1 and ord(small) != lower.get(c, c):
            print(f"LOWER(0x{c:X}, 0x{ord(small):X})")


main()
