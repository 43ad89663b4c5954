#!/usr/bin/env python3
"""Makes prompts for infilling with transformers' CodeLlamaTokenizer, for runtime/tests/tokenizer_huggingface.rs to compare with.

    infill_reference.py tests/data/tiny-codellama-bf16

The directory has a tokenizer.json with Code Llama's marks; infill.json is put beside it: [[before, after, prefix first, suffix first]].
No prefix is empty: transformers makes a token `▁` of an empty one, Meta's code none. Needs transformers (4.57 and 5.23 agree; without torch).
"""

import json
import pathlib
import sys

from transformers import CodeLlamaTokenizerFast

TEXTS = [
    ("the llama", " walked home"),
    (" the llama ", "walked home"),
    ("def f(x):\n    return ", "\n\nprint(f(3))\n"),
    ("\tif", "  else"),
    ("  ", "\n  b"),
    ("cord", "☺ cords"),
    ("número ", "é ñ 🦙"),
    ("one", " <PRE> two"),
]


def main() -> None:
    directory = pathlib.Path(sys.argv[1])
    tokenizer = CodeLlamaTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"), bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    ids = lambda before, after, **how: tokenizer(before + tokenizer.fill_token + after, **how)["input_ids"]
    cases = [[before, after, ids(before, after), ids(before, after, suffix_first=True)] for before, after in TEXTS]
    (directory / "infill.json").write_text(json.dumps(cases, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
