#!/usr/bin/env python3
"""Random tokenizers and what Hugging Face's `tokenizers` makes of texts, for runtime/tests/tokenizer_variants.rs to compare with.

    tokenizer_variants.py OUT.json [--count N] [--texts N]

Each variant has the vocabulary and merges of a tokenizer of tests/data, and added tokens (single_word, lstrip, rstrip, normalized,
special), a normalizer and pre-tokenizers drawn at random. OUT.json gets, for each, these parts of its tokenizer.json and the ids of some
texts. Needs only the package tokenizers; the same on every run.

    tests/data/tokenizer/variants.json    --count 60 --texts 12; committed
    $QUIPU_REFS/variants.json             --count 1000 --texts 40; made by fetch.sh

Format: {"made_by", "variants": [{"base", "added_tokens", "normalizer", "pre_tokenizer", "texts": [[text, [ids], [plain ids]]]}]}. "plain ids"
take special tokens that stand in the text as text (null when equal). No BOS.
"""
import argparse
import json
import os
import pathlib
import random

# It panics on some of these tokenizers, and says so at length.
os.environ["RUST_BACKTRACE"] = "0"
import tokenizers  # noqa: E402

SEED = 20260412
DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
BASES = {"bytes": "tiny-llama3-bf16", "sentencepiece": "tiny-llama2-f16"}
CONTENTS = ["<|user|>", "<x>", "Yes Sir", "YES", "ab", "É", " the", "the ", "\n", "<|a|>", "ﬁ", "<|a|>b", "_", "1", "  ", "e\u0301", "▁w"]
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
PIECES = CONTENTS + ["hello", "Hello", "yes sir", "Yes", " ", "   ", "\t", "\u3000", "\u00a0", "world's", "don't", "123", "4567", "٣", ",", "!", "—", "é", "ÀÉ",
                     "İ", "ß", "ﬃ", "中文", "🦙", "x", "_", "-", "llama quipu", "\r\n", "a.b", "²", "\u0301"]


def normalizer(rng):
    kinds = [{"type": t} for t in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents")] + [
        {"type": "Strip", "strip_left": rng.random() < 0.5, "strip_right": rng.random() < 0.5},
        {"type": "Prepend", "prepend": rng.choice(["▁", "_", "x"])},
        {"type": "Replace", "pattern": {"String": rng.choice([" ", "a", "ll"])}, "content": rng.choice(["▁", "", "bb"])},
        {"type": "Replace", "pattern": {"Regex": rng.choice([r"\s{2,}", r"[0-9]+", r"l+(?=o)"])}, "content": rng.choice([" ", "", "0"])},
    ]
    # Each once: Quipu refuses what makes a text hundreds of times as long.
    chosen = rng.sample(kinds, k=rng.choice([0, 1, 1, 2, 3]))
    return {"type": "Sequence", "normalizers": chosen} if chosen else None


def splits(rng):
    kinds = [
        {"type": "Split", "pattern": {"Regex": rng.choice([GPT2, LLAMA3, r"\s", r"l+", r"\d{1,2}"])}, "behavior": rng.choice(BEHAVIORS), "invert": rng.random() < 0.2},
        {"type": "Split", "pattern": {"String": rng.choice(["ll", " ", "."])}, "behavior": rng.choice(BEHAVIORS), "invert": False},
        {"type": "Digits", "individual_digits": rng.random() < 0.5},
        {"type": "Punctuation", "behavior": rng.choice(BEHAVIORS)},
        {"type": "Whitespace"}, {"type": "WhitespaceSplit"}, {"type": "BertPreTokenizer"},
        {"type": "CharDelimiterSplit", "delimiter": rng.choice(" _-")},
        {"type": "FixedLength", "length": rng.choice([1, 3, 7])},
    ]
    return rng.choices(kinds, k=rng.choice([0, 0, 1, 1, 2]))


def pre_tokenizer(rng, base):
    steps = splits(rng)
    if base == "bytes":
        steps.append({"type": "ByteLevel", "add_prefix_space": rng.random() < 0.5, "trim_offsets": True, "use_regex": rng.random() < 0.5})
    elif rng.random() < 0.7:
        steps.append({"type": "Metaspace", "replacement": "▁", "prepend_scheme": rng.choice(["always", "never", "first"]), "split": rng.random() < 0.5})
    if not steps:
        return None
    return steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}


def added_tokens(rng, before, first_id):
    added = list(before)
    for content in rng.sample(CONTENTS, rng.randint(0, 6)):
        flag = lambda p: rng.random() < p
        added.append({"id": first_id + len(added) - len(before), "content": content, "single_word": flag(0.2), "lstrip": flag(0.3), "rstrip": flag(0.3),
                      "normalized": flag(0.4), "special": flag(0.5)})
    return added


def variant(rng, texts):
    base = rng.choice(list(BASES))
    whole = json.loads((DATA / BASES[base] / "tokenizer.json").read_text())
    size = max([len(whole["model"]["vocab"])] + [t["id"] + 1 for t in whole["added_tokens"]])
    parts = {"added_tokens": added_tokens(rng, whole["added_tokens"], size), "normalizer": normalizer(rng), "pre_tokenizer": pre_tokenizer(rng, base)}
    try:
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(whole | parts | {"post_processor": None}))
    except Exception:
        return None  # a component that this version does not have
    normalized = [t["content"] for t in parts["added_tokens"] if t["normalized"]]
    if parts["normalizer"] and not all(tokenizer.normalizer.normalize_str(content) for content in normalized):
        return None  # an empty token stands everywhere, and fills the memory
    found = []
    for _ in range(texts):
        text = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 9)))
        try:
            tokenizer.encode_special_tokens = False
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            tokenizer.encode_special_tokens = True
            plain = tokenizer.encode(text, add_special_tokens=False).ids
        except BaseException as e:  # a panic of tokenizers: tokens that take each other's white space
            if isinstance(e, KeyboardInterrupt):
                raise
            continue
        found.append([text, ids, None if plain == ids else plain])
    spelled = [tokenizer.normalizer.normalize_str(content) if parts["normalizer"] else content for content in normalized]
    if len(set(spelled)) < len(spelled):
        return None  # which of two equal ones it finds is up to a hash table
    return {"base": base, **parts, "texts": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--texts", type=int, default=40)
    args = parser.parse_args()
    rng = random.Random(SEED)
    variants = [v for v in (variant(rng, args.texts) for _ in range(args.count)) if v]
    args.out.write_text(json.dumps({"made_by": f"tokenizers {tokenizers.__version__}", "variants": variants}, ensure_ascii=False, indent=None) + "\n")


if __name__ == "__main__":
    main()
