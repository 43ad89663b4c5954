#!/usr/bin/env python3
"""What llama.cpp, and exact arithmetic, make of SmolLM2-135M-Instruct Q4_1: the figures in tests/data/smollm2.

    smollm2_reference.py MODEL.gguf greedy GREEDY.json    checks llama_cpp_greedy.json against the llama.cpp at hand
    smollm2_reference.py MODEL.gguf perplexity TEXT       prints llama_cpp_perplexity.json: the first 64 KiB of TEXT, context 512
    smollm2_reference.py MODEL.gguf scatter GREEDY.json   prints logprobs.json: how far llama.cpp's own ways of computing the same tokens lie
                                                          from each other and from float64 arithmetic on the dequantised weights, and how far
                                                          float64 arithmetic lies from both once activations are rounded to 8 bits

The scatter is what a comparison of logprobs can mean for this file. Activations are rounded to 8 bits before every quantised product; a
change in the last bit of a float moves some value over a rounding boundary, and thirty layers carry that on. So the same computation,
rounded, is repeated from embeddings disturbed by one part in a million.
"""
import argparse
import json
import math
import pathlib

import gguf
import numpy as np
import xllamacpp

import llama_cpp

ENGINE = f"llama.cpp (xllamacpp {xllamacpp.__version__})"


def round_to_8_bits(x: np.ndarray) -> np.ndarray:
    """What a quantised product sees of its activations: per 32 values, multiples of a 127th of the largest."""
    blocks = x.reshape(-1, 32)
    step = np.abs(blocks).max(1, keepdims=True) / 127
    return (np.round(np.divide(blocks, step, out=np.zeros_like(blocks), where=step > 0)) * step).reshape(x.shape)


def numpy_logits(path: pathlib.Path, sequences: list[list[int]], rounded: bool = False, disturbance: float = 0, seed: int = 0) -> list[np.ndarray]:
    """The forward pass of the Llama paper in float64 numpy, on dequantised weights, for each sequence of tokens."""
    random, see = np.random.default_rng(seed), round_to_8_bits if rounded else lambda x: x
    reader = gguf.GGUFReader(str(path))
    field = lambda name: reader.fields[f"llama.{name}"].contents()
    weights = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors}
    heads, kv_heads, epsilon = field("attention.head_count"), field("attention.head_count_kv"), field("attention.layer_norm_rms_epsilon")
    head_dim = field("rope.dimension_count")
    frequencies = field("rope.freq_base") ** (-np.arange(0, head_dim, 2) / head_dim)

    def norm(x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weights[name]

    def rope(x):
        angle = np.arange(len(x))[:, None, None] * frequencies
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack((even * np.cos(angle) - odd * np.sin(angle), even * np.sin(angle) + odd * np.cos(angle)), -1).reshape(x.shape)

    results = []
    for tokens in sequences:
        n = len(tokens)
        x = weights["token_embd.weight"][tokens]
        x = x * (1 + disturbance * random.standard_normal(x.shape))
        hidden = np.triu(np.full((n, n), -np.inf), 1)
        for layer in range(field("block_count")):
            part = f"blk.{layer}."
            h = see(norm(x, part + "attn_norm.weight"))
            q, k, v = ((h @ weights[part + f"attn_{name}.weight"].T).reshape(n, -1, head_dim) for name in "qkv")
            q, k = rope(q), np.repeat(rope(k), heads // kv_heads, 1)
            v = np.repeat(v, heads // kv_heads, 1)
            scores = np.einsum("thd,shd->hts", q, k) / math.sqrt(head_dim) + hidden
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            x = x + see(np.einsum("hts,shd->thd", scores, v).reshape(n, -1)) @ weights[part + "attn_output.weight"].T
            h = see(norm(x, part + "ffn_norm.weight"))
            gate = h @ weights[part + "ffn_gate.weight"].T
            x = x + see(gate / (1 + np.exp(-gate)) * (h @ weights[part + "ffn_up.weight"].T)) @ weights[part + "ffn_down.weight"].T
        output = weights.get("output.weight", weights["token_embd.weight"])
        results.append(see(norm(x, "output_norm.weight")) @ output.T)
    return results


def difference(ours, theirs) -> dict:
    delta = np.abs(np.asarray(ours) - np.asarray(theirs))
    return {"mean": round(float(delta.mean()), 4), "rms": round(float(np.sqrt((delta**2).mean())), 4), "max": round(float(delta.max()), 4)}


def check_greedy(model: llama_cpp.Model, golden: dict) -> int:
    worst = 0.0
    for result in golden["results"]:
        prompt, ids = model.tokenize(result["prompt"]), [t["id"] for t in result["tokens"]]
        if model.greedy(prompt, len(ids)) != ids:
            print(f"FAILED: {result['prompt']!r}: this llama.cpp's greedy tokens differ")
            return 1
        model.reset()
        rows = model.evaluate(prompt + ids)[len(prompt) - 1:-1]
        worst = max(worst, max(abs(llama_cpp.log_softmax(row)[t["id"]] - t["logprob"]) for row, t in zip(rows, result["tokens"])))
    print(f"ok: greedy tokens equal, logprobs within {worst:.4f}")
    return 0 if worst < 0.01 else 1


def scatter(path: pathlib.Path, golden: dict) -> dict:
    variants = {"default": {}, "no flash attention": dict(flash_attention=0), "no flash attention, f32 KV cache": dict(flash_attention=0, kv_type=0)}
    logprobs = {}
    for name, options in variants.items():
        with llama_cpp.Model(path, **options) as model:
            sequences = [(model.tokenize(r["prompt"]), [t["id"] for t in r["tokens"]]) for r in golden["results"]]
            logprobs[name] = []
            for prompt, ids in sequences:
                model.reset()
                rows = model.evaluate(prompt + ids)[len(prompt) - 1:-1]
                logprobs[name].append([float(llama_cpp.log_softmax(row)[i]) for row, i in zip(rows, ids)])

    def computed(**how) -> list[list[float]]:
        rows = numpy_logits(path, [prompt + ids for prompt, ids in sequences], **how)
        return [[float(llama_cpp.log_softmax(row)[i]) for row, i in zip(r[len(prompt) - 1:-1], ids)] for r, (prompt, ids) in zip(rows, sequences)]

    exact = computed()
    rounded = [computed(rounded=True, disturbance=1e-6, seed=seed) for seed in range(12)]
    flat = lambda lists: [x for part in lists for x in part]
    ranges = lambda other: {what: sorted(difference(flat(l), flat(other))[what] for l in rounded) for what in ("mean", "rms", "max")}
    return {
        "made_by": "tests/refs/smollm2_reference.py MODEL scatter", "engine": ENGINE,
        "about": "logprobs of the tokens of llama_cpp_greedy.json: exact is float64 arithmetic on the dequantised weights, rounded is the "
                 "same with activations rounded to 8 bits, twelve times from embeddings disturbed by 1e-6",
        "exact": [[round(x, 6) for x in part] for part in exact],
        "llama_cpp_from_exact": {name: difference(flat(l), flat(exact)) for name, l in logprobs.items()},
        "llama_cpp_from_default": {name: difference(flat(l), flat(logprobs["default"])) for name, l in logprobs.items() if name != "default"},
        "rounded_from_exact": ranges(exact),
        "rounded_from_default": ranges(logprobs["default"]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("what", choices=["greedy", "perplexity", "scatter"])
    parser.add_argument("file", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.what == "perplexity":
        text = arguments.file.read_bytes()[:65536]
        results = {}
        for name, options in {"default": {}, "no flash attention": dict(flash_attention=0)}.items():
            with llama_cpp.Model(arguments.model, n_ctx=512, threads=2, **options) as model:
                results[name] = model.perplexity(text, 512)
        print(json.dumps({"made_by": "tests/refs/smollm2_reference.py MODEL perplexity wiki.test.raw", "engine": ENGINE, "bytes": len(text),
                          "context": 512, **results["default"], "without_flash_attention": results["no flash attention"]["perplexity"]}, indent=1))
        return 0
    golden = json.loads(arguments.file.read_text())
    if arguments.what == "greedy":
        with llama_cpp.Model(arguments.model) as model:
            return check_greedy(model, golden)
    print(json.dumps(scatter(arguments.model, golden), indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
