#!/usr/bin/env python3
"""What llama.cpp's samplers leave of a distribution: the figures in tests/data/samplers/llama_cpp.json.

    llama_cpp_samplers.py DEMO.gguf           prints them
    llama_cpp_samplers.py DEMO.gguf FILE      checks FILE against the llama.cpp at hand

Each case is a text, logits by a formula, and samplers in an order with their options, each called through llama.cpp's C interface. What is
left are tokens with probabilities, computed from their last logits in float64. DEMO gives the texts of tokens to DRY's sequence breakers.
"""
import ctypes
import json
import pathlib
import sys

import numpy as np
import xllamacpp

import llama_cpp
from llama_cpp import _declare, _i, _p

# Tokens that have logits.
COUNT = 360
_f = ctypes.c_float


class _Token(ctypes.Structure):
    _fields_ = [("id", _i), ("logit", _f), ("p", _f)]


class _Tokens(ctypes.Structure):
    _fields_ = [("data", ctypes.POINTER(_Token)), ("size", ctypes.c_size_t), ("selected", ctypes.c_int64), ("sorted", ctypes.c_bool)]


class _Bias(ctypes.Structure):
    _fields_ = [("token", _i), ("bias", _f)]


_accept = _declare("llama_sampler_accept", None, _p, _i)
_apply = _declare("llama_sampler_apply", None, _p, ctypes.POINTER(_Tokens))
_free = _declare("llama_sampler_free", None, _p)
_make = {
    "logit_bias": _declare("llama_sampler_init_logit_bias", _p, _i, _i, ctypes.POINTER(_Bias)),
    "penalties": _declare("llama_sampler_init_penalties", _p, _i, _i, _f, _f, _f),
    "dry": _declare("llama_sampler_init_dry", _p, _p, _f, _f, _i, _i, ctypes.POINTER(ctypes.c_char_p), ctypes.c_size_t),
    "top_n_sigma": _declare("llama_sampler_init_top_n_sigma", _p, _f),
    "top_k": _declare("llama_sampler_init_top_k", _p, _i),
    "typ_p": _declare("llama_sampler_init_typical", _p, _f, ctypes.c_size_t),
    "top_p": _declare("llama_sampler_init_top_p", _p, _f, ctypes.c_size_t),
    "min_p": _declare("llama_sampler_init_min_p", _p, _f, ctypes.c_size_t),
    "xtc": _declare("llama_sampler_init_xtc", _p, _f, _f, ctypes.c_size_t, ctypes.c_uint32),
    "temperature": _declare("llama_sampler_init_temp_ext", _p, _f, _f, _f),
    "mirostat1": _declare("llama_sampler_init_mirostat", _p, _i, ctypes.c_uint32, _f, _f, _i),
    "mirostat2": _declare("llama_sampler_init_mirostat_v2", _p, ctypes.c_uint32, _f, _f),
}

DEFAULT = ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"]
# Everything off; a case says what is on.
OFF = {"temperature": 1.0, "dynatemp_range": 0.0, "dynatemp_exponent": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0,
       "top_n_sigma": -1.0, "xtc_probability": 0.0, "xtc_threshold": 0.1, "repeat_penalty": 1.0, "frequency_penalty": 0.0,
       "presence_penalty": 0.0, "repeat_last_n": 64, "dry_multiplier": 0.0, "dry_base": 1.75, "dry_allowed_length": 2,
       "dry_penalty_last_n": 64, "dry_sequence_breakers": [], "mirostat": 0, "mirostat_tau": 5.0, "mirostat_eta": 0.1, "logit_bias": [],
       "samplers": DEFAULT}
LOOP = [40, 41, 42, 43, 50, 40, 41, 42, 44, 61, 40, 41, 42]
WARM = {"temperature": 1.3, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
ALL = WARM | {"typical_p": 0.9, "top_n_sigma": 2.0, "xtc_probability": 1.0, "xtc_threshold": 0.05, "repeat_penalty": 1.1,
              "frequency_penalty": 0.3, "presence_penalty": 0.2, "dry_multiplier": 0.8, "dynatemp_range": 0.4, "dynatemp_exponent": 1.2,
              "logit_bias": [[7, 2.5], [19, -3.0]]}


def cases(demo: llama_cpp.Model) -> list[dict]:
    marks = [":", ", \"", "\n"]
    colon, comma = demo.tokenize(":", special=False), demo.tokenize(", \"", special=False)
    assert len(colon) == 1 and len(comma) == 2 and max(colon + comma) < COUNT
    list_of = lambda *each: [{"text": LOOP, "options": options} for options in each]
    found = list_of(
        {}, {"temperature": 0.7}, {"top_k": 17}, {"top_p": 0.8}, {"min_p": 0.15}, {"typical_p": 0.3}, {"typical_p": 0.85},
        {"top_n_sigma": 0.7}, {"top_n_sigma": 1.5, "temperature": 2.0}, {"xtc_probability": 1.0, "xtc_threshold": 0.02},
        {"xtc_probability": 1.0, "xtc_threshold": 0.5}, {"dynatemp_range": 0.5, "temperature": 0.9},
        {"dynatemp_range": 2.0, "temperature": 0.5, "dynatemp_exponent": 0.4}, {"repeat_penalty": 1.4}, {"repeat_penalty": 0.8, "repeat_last_n": 5},
        {"frequency_penalty": 0.7, "presence_penalty": -0.4}, {"dry_multiplier": 0.8}, {"dry_multiplier": 0.5, "dry_base": 3.0, "dry_allowed_length": 1},
        {"dry_multiplier": 2.0, "dry_allowed_length": 3}, {"dry_multiplier": 2.0, "dry_allowed_length": 4}, {"dry_multiplier": 2.0, "dry_penalty_last_n": 9},
        {"mirostat": 1}, {"mirostat": 1, "mirostat_tau": 2.0}, {"mirostat": 2}, {"mirostat": 2, "mirostat_tau": 1.5, "temperature": 1.4},
        WARM, ALL, ALL | {"samplers": ["temperature", "xtc", "top_p", "typ_p", "min_p", "top_k", "top_n_sigma", "dry", "penalties"]},
        ALL | {"samplers": ["top_k", "dry", "temperature", "min_p"]}, ALL | {"samplers": ["dry"]},
    )
    breakers = {"dry_multiplier": 0.8, "dry_allowed_length": 1, "dry_sequence_breakers": marks}
    words = [64, 65, 66]
    for text in ((words + colon) * 3, (words + colon) * 2 + words, words + colon + words, words * 3 + comma[:1], (words + comma) * 2 + words[:2],
                 (words + comma) * 2 + words + comma[:1], colon + words * 4):
        found.append({"text": text, "options": breakers})
    # Each with logits of its own: peaked, flat and in between.
    for i, case in enumerate(found):
        case["logits"] = {"step": 7919 + 2 * i, "width": [12.0, 3.0, 7.0][i % 3]}
    return found


def logits(step: int, width: float) -> list[float]:
    """Spread over `width`, and rising towards the end, in float32."""
    return [float(np.float32((i * step % 1009) * (i * step % 1009) / 1009 / 1009 * width)) for i in range(COUNT)]


def sampler(name: str, o: dict, demo: llama_cpp.Model):
    biases, breakers = o["logit_bias"], [text.encode() for text in o["dry_sequence_breakers"]]
    arguments = {
        "logit_bias": lambda: (COUNT, len(biases), (_Bias * len(biases))(*[_Bias(*bias) for bias in biases])),
        "penalties": lambda: (COUNT, o["repeat_last_n"], o["repeat_penalty"], o["frequency_penalty"], o["presence_penalty"]),
        "dry": lambda: (demo.vocab, o["dry_multiplier"], o["dry_base"], o["dry_allowed_length"], o["dry_penalty_last_n"],
                        (ctypes.c_char_p * len(breakers))(*breakers), len(breakers)),
        "top_n_sigma": lambda: (o["top_n_sigma"],),
        "top_k": lambda: (o["top_k"],),
        "typ_p": lambda: (o["typical_p"], 0),
        "top_p": lambda: (o["top_p"], 0),
        "min_p": lambda: (o["min_p"], 0),
        "xtc": lambda: (o["xtc_probability"], o["xtc_threshold"], 0, 1),
        "temperature": lambda: (o["temperature"], o["dynatemp_range"], o["dynatemp_exponent"]),
        "mirostat1": lambda: (COUNT, 1, o["mirostat_tau"], o["mirostat_eta"], 100),
        "mirostat2": lambda: (1, o["mirostat_tau"], o["mirostat_eta"]),
    }
    return _make[name](*arguments[name]())


def kept(case: dict, demo: llama_cpp.Model) -> list[tuple[int, float]]:
    options = OFF | case["options"]
    chain = ["logit_bias"] + (["temperature", f"mirostat{options['mirostat']}"] if options["mirostat"] else options["samplers"])
    values = logits(**case["logits"])
    room = (_Token * COUNT)(*[_Token(i, value, 0.0) for i, value in enumerate(values)])
    tokens = _Tokens(room, COUNT, -1, False)
    for name in chain:
        step = sampler(name, options, demo)
        for token in case["text"]:
            _accept(step, token)
        _apply(step, ctypes.byref(tokens))
        _free(step)
    left = [(tokens.data[i].id, tokens.data[i].logit) for i in range(tokens.size) if tokens.data[i].logit > -np.inf]
    p = np.exp(llama_cpp.log_softmax(np.array([logit for _, logit in left])))
    return sorted(((id, float(p)) for (id, _), p in zip(left, p)), key=lambda pair: (-pair[1], pair[0]))


def main() -> None:
    demo = llama_cpp.Model(sys.argv[1])
    found = cases(demo)
    for case in found:
        case["kept"] = [[id, round(p, 8)] for id, p in kept(case, demo)]
    if len(sys.argv) == 2:
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in found)
        print(f'{{"engine": "llama.cpp (xllamacpp {xllamacpp.__version__})", "count": {COUNT}, "off": {json.dumps(OFF)}, "cases": [\n{lines}\n]}}')
        return
    expected = json.loads(pathlib.Path(sys.argv[2]).read_text())["cases"]
    same = lambda a, b: [i for i, _ in a["kept"]] == [i for i, _ in b["kept"]] and np.allclose(
        [p for _, p in a["kept"]], [p for _, p in b["kept"]], atol=1e-6)
    good = len(expected) == len(found) and all(a["options"] == b["options"] and a["text"] == b["text"] and same(a, b)
                                               for a, b in zip(expected, found))
    print(("ok: " if good else "FAILED: ") + f"{len(found)} cases of samplers are what this llama.cpp makes of them")
    sys.exit(not good)


if __name__ == "__main__":
    main()
