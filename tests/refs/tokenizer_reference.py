#!/usr/bin/env python3
"""Tokenises with Hugging Face's `tokenizers`, for runtime/tests/tokenizer_huggingface.rs to compare with.

    tokenizer_reference.py TOKENIZER_JSON OUT.json [--text FILE] [--strings N]

OUT.json gets the ids of --strings random Unicode strings (10,000 by default; the same ones on every run) and, with --text, those of
FILE as a whole and line by line. Needs only the package tokenizers; takes a few seconds.

    tests/data/tokenizer/tales.json         models/tales/tokenizer.json, --strings 400; committed
    tests/data/tokenizer/tiny-llama2.json   tests/data/tiny-llama2-f16/tokenizer.json, --strings 300; committed
    $QUIPU_REFS/tokenizer.json              Llama 3.1's tokenizer.json, --text wiki.test.raw; made when needed: neither is ours to ship

Format: {"made_by", "strings": [{"text", "parsed": [ids], "plain": [ids]}], "whole": {"text", "ids"}, "lines": [[ids]]}. "parsed" takes
special tokens that stand in the text as such, "plain" takes them as text (absent when equal). No BOS. "lines" is for text.split("\\n").
"""
import argparse
import json
import random

import tokenizers

SEED = 20250101

SCRIPTS = [
    (0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x250, 0x2AF), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x586), (0x5D0, 0x5EA), (0x620, 0x64A),
    (0x710, 0x72F), (0x904, 0x939), (0x985, 0x9B9), (0xB85, 0xBB9), (0xE01, 0xE30), (0xE81, 0xEB0), (0xF40, 0xF6C), (0x1000, 0x102A), (0x10A0, 0x10FF),
    (0x1100, 0x11FF), (0x1200, 0x135A), (0x13A0, 0x13FD), (0x1780, 0x17B3), (0x1820, 0x1878), (0x1E00, 0x1FFF), (0x2C00, 0x2C7F), (0x3041, 0x3096),
    (0x30A1, 0x30FA), (0x3105, 0x312F), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA48C), (0xAC00, 0xD7A3), (0xFB00, 0xFB06), (0xFF21, 0xFF5A),
    (0x10400, 0x1044F), (0x12000, 0x12399), (0x1D400, 0x1D7FF), (0x20000, 0x2A6DF), (0x30000, 0x3134A),
]
WORDS = "the The THE of and llama quipu cord don't it's we'll they're I've I'm he'd rock'n'roll naïve Straße œuvre façade".split()
SPACES = list(" \t\n\r\v\f") + [chr(c) for c in (0x85, 0xA0, 0x1680, 0x180E, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0x200B, 0xFEFF)]
SPACES += [chr(c) for c in range(0x2000, 0x200B)]
CONTRACTIONS = ["'" + s for s in "s t re ve m ll d S T RE VE M LL D Re lL ſ K st ſt r v l".split()] + ["’s", "’t", "''s", "'", "`s", "ʼn"]
COMBINING = [(0x300, 0x36F), (0x483, 0x489), (0x591, 0x5BD), (0x64B, 0x65F), (0x93A, 0x94F), (0xE31, 0xE3A), (0x1AB0, 0x1ACE), (0x20D0, 0x20F0), (0xFE20, 0xFE2F)]
DIGITS = [(0x30, 0x39)] * 8 + [(0x660, 0x669), (0x966, 0x96F), (0xFF10, 0xFF19), (0x2160, 0x2188), (0x2460, 0x249B), (0xBC, 0xBE), (0x2070, 0x2089), (0x1D7CE, 0x1D7FF)]
EMOJI = ["🦙", "😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇵🇪", "🇧🇴🇨🇱", "1️⃣", "#️⃣", "❤️", "☃", "🧑🏿‍🚀", "\u200d", "\ufe0f", "🏴󠁧󠁢󠁳󠁣󠁴󠁿"]
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + list("¡¿«»“”‘’‚„…—–·•†§¶©®™°±×÷¬√∞≈≠≤≥←→⇒€£¥₿、。「」『』！？：；")
ODD = ["\ufffd", "\ufffe", "\uffff", "\ufdd0", "\U0001fffe", "\U0010ffff", "\ue000", "\U000f0000", "Ã©", "â€™", "\x00", "\x7f", "\x80", "\x9f", "\u0378", "\u202e", "\u2066"]
CODE = ["    return x;\n", "\tif (a != b) {\r\n", "//---\n\n", "0x1F_u32", "a->b::c<d>", "{{% raw %}}", "$(ls -la)", "https://example.org/a?b=1&c=2", "e^{-i\\pi}", "a_b-c.d", "\n\n\n", "  \n  ", " \r\n \r\n"]


def chars(rng, ranges, low, high):
    first, last = rng.choice(ranges)
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(low, high)))


def anything(rng):
    while 0xD800 <= (c := rng.choice([rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0x110000)])) < 0xE000:
        pass
    return chr(c)


def random_string(rng, special):
    makers = [
        (6, lambda: chars(rng, SCRIPTS, 1, 9)),
        (5, lambda: rng.choice(WORDS)),
        (6, lambda: " " * rng.choice([1, 1, 1, 1, 2, 3, 4, 7, 17])),
        (4, lambda: "".join(rng.choice(SPACES) for _ in range(rng.randint(1, 4)))),
        (3, lambda: rng.choice(CONTRACTIONS)),
        (3, lambda: chars(rng, COMBINING, 1, 3)),
        (3, lambda: chars(rng, DIGITS, 1, 8)),
        (2, lambda: rng.choice(EMOJI)),
        (4, lambda: "".join(rng.choice(PUNCTUATION) for _ in range(rng.randint(1, 4)))),
        (2, lambda: rng.choice(["\n", "\r\n", "\r", "\n\r", "\n\n", "\r\n\r\n"])),
        (1, lambda: rng.choice(ODD)),
        (2, lambda: rng.choice(CODE)),
        (1, lambda: anything(rng) * rng.choice([1, 1, 1, 2, 90])),
        (1, lambda: chr(rng.randrange(0x20))),
        (1, lambda: rng.choice(special)),
        (1, lambda: (token := rng.choice(special))[: rng.randrange(len(token))]),
    ]
    weights, makers = zip(*makers)
    return "".join(make() for make in rng.choices(makers, weights, k=rng.choice([0, 1, 2, 3, 5, 8, 13, 21])))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer")
    parser.add_argument("output")
    parser.add_argument("--text")
    parser.add_argument("--strings", type=int, default=10_000)
    args = parser.parse_args()

    parsed = tokenizers.Tokenizer.from_file(args.tokenizer)
    plain = tokenizers.Tokenizer.from_file(args.tokenizer)
    plain.encode_special_tokens = True
    ids = lambda tokenizer, text: tokenizer.encode(text, add_special_tokens=False).ids
    special = sorted(token.content for token in parsed.get_added_tokens_decoder().values() if token.special)

    rng = random.Random(SEED)
    result = {"made_by": f"tokenizers {tokenizers.__version__}", "strings": []}
    for _ in range(args.strings):
        text = random_string(rng, special)
        case = {"text": text, "parsed": ids(parsed, text)}
        as_text = ids(plain, text)
        if as_text != case["parsed"]:
            case["plain"] = as_text
        result["strings"].append(case)
    if args.text:
        with open(args.text, encoding="utf-8", newline="") as file:
            text = file.read()
        result["whole"] = {"text": text, "ids": ids(parsed, text)}
        result["lines"] = [ids(parsed, line) for line in text.split("\n")]
    with open(args.output, "w", encoding="utf-8") as file:
        # Surrogate pairs would be a second way to write a character; plain UTF-8 keeps the file small.
        json.dump(result, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
