#!/usr/bin/env python3
"""llama.cpp reads what Quipu writes, and does the same with it.

    llama_cpp_check.py QUIPU REFS DEMO [LLAMA_QUANTIZE]

QUIPU is the binary, REFS what fetch.sh made, DEMO a Hugging Face directory (models/tales), LLAMA_QUANTIZE llama.cpp's program. Every line
starts with `ok:`, `FAILED:` or `SKIPPED:`.

- checkpoints: `quipu convert --type f32` of each random checkpoint and of those in tests/data, computed by llama.cpp with an f32 KV cache, gives the logits that
  transformers computes. This holds the converter (permutation, RoPE factors, biases, metadata) against both without Quipu's own engine.
- parts: a file of `--split-size` gives the logits of the whole one.
- families: a random checkpoint of each other family loads, tokenises alike and continues prompts as `text` says.
- bytes: the tensors of a quantised file are, byte for byte, what ggml quantises from the f32 file.
- mixes: a file of mixed types has the types and the size of llama-quantize's; with blocks that ggml made, Quipu finds llama.cpp's perplexity.
- chosen types: a file of `--target-bits`, calibrated by the model's own text, has the perplexity that llama.cpp finds, too.
- gemma: Gemma 3 270M, real weights with windows: texts tokenised alike, the perplexity of both within half a percent, beyond the window too, and
  greedy texts as those of the demo model.
- text: the demo model in every type loads, tokenises alike and continues prompts alike. Nine in ten of Quipu's greedy tokens are those that
  llama.cpp would write in their place, the others within GAP_BOTH of its likeliest and the first of them a near tie: both round the
  inputs of products, and not alike. With the same weights in f32, where nothing is rounded, llama.cpp has all of them within GAP.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np

import llama_cpp

TYPES = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k_m", "q5_k_s", "q6_k", "q2_k", "q3_k_m", "iq4_nl",
         "iq4_xs"]
FLOATS = TYPES[:3]
MIXES = ["q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "iq4_nl", "iq4_xs"]
# Random checkpoints of the families that the demo model is not of.
FAMILIES = ["qwen2", "qwen3", "gemma3", "gemma2", "phi", "olmo2", "olmo3", "granite", "smollm3", "mixtral", "qwen3moe"]
# Those that llama.cpp does not have.
NOT_THERE = ["opt"]
# Types with a plain rule. (ggml's rule for the others is a search.)
PLAIN = ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1"]
# Tokens of a text, and how far below the likeliest their logits may be: with F32, F16 or BF16; with types for which Quipu rounds the inputs of products to
# 8 bits, where of 144 tokens a few stand where that moves logits by a tenth; and where llama.cpp rounds, too (0.37 was found, where its rounding
# alone had moved the difference of two logits by 0.54).
STEPS = 48
GAP_FLOAT, GAP, GAP_BOTH = 0.05, 0.2, 0.5
# How close llama.cpp's own best two have to be where its choice first is another one; the second, where a type has blocks of 256, whose inputs
# ggml rounds with one scale for 256 of them and Quipu with one for 32. (Files of most other types have Q6_K for the embeddings.)
TIE, TIE_K = 0.1, 0.3
TEXT = pathlib.Path(__file__).parents[2] / "docs" / "design.md"
PROMPTS = ["Once upon a time", "The old king said to his daughter, “", "In the forest there lived a fox,"]
TEXTS = PROMPTS + ["Don't 12345 stop,\n\n\tüber 猫 👍🏽   spaces  ", "x<|eot_id|> <s> </s>", ""]

failures = 0


def report(good: bool, text: str) -> None:
    global failures
    failures += not good
    print(("ok: " if good else "FAILED: ") + text, flush=True)


def run(*command, said: list[str] | None = None) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip()[-500:]}")
    if said is not None:
        said.extend(done.stderr.splitlines())
    return done.stdout


def check_checkpoint(quipu: str, directory: pathlib.Path, scratch: pathlib.Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    if config["model_type"] == "qwen3" and config["attention_bias"]:
        print(f"SKIPPED: llama-cpp: {directory.name}: llama.cpp has no bias of attention's output for qwen3", flush=True)
        return
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    reference = json.loads((directory / "reference.json").read_text())
    if rope.get("rope_type") == "dynamic" and reference.get("context", 0) > config["max_position_embeddings"] or "beta_fast" in rope:
        print(f"SKIPPED: llama-cpp: {directory.name}: llama.cpp has no dynamic scaling, and for these families YaRN's own betas alone", flush=True)
        return
    out = scratch / "checkpoint.gguf"
    out.unlink(missing_ok=True)
    said: list[str] = []
    run(quipu, "convert", directory, "-o", out, "--type", "f32", said=said)
    for line in said:
        # Windows where llama.cpp has none, layers that are not its rule's: the user is told, and here it is why.
        if "llama.cpp will not run this file as Quipu does" in line:
            print(f"SKIPPED: llama-cpp: {directory.name}: {line}", flush=True)
            return
    vocab = reference["vocab_size"]
    wanted = np.fromfile(directory / "reference.f32", "<f4").reshape(-1, vocab)
    with llama_cpp.Model(out, n_ctx=reference.get("context", 1024), kv_type=0, flash_attention=0) as model:
        logits = model.evaluate(reference["tokens"], reference["positions"])
        error = float(np.abs(logits - wanted).max())
        # llama.cpp keeps RoPE's angles and its sums in float32, like transformers in float32: a few times its error.
        bound = 4 * reference["float32_error"] + 1e-4
        if config["model_type"].startswith("gemma"):
            # ggml looks GELU up in a table of f16.
            bound += 0.05
        report(error <= bound, f"llama.cpp on {directory.name} converted to f32: logits within {error:.1e} of transformers (bound {bound:.1e})")
        tokens = model.tokenize(reference["text"])
        report(tokens == reference["text_tokens"], f"llama.cpp on {directory.name} converted: tokens as Hugging Face tokenizers")


def check_bytes(name: str, quantised: pathlib.Path, full: pathlib.Path) -> None:
    floats = {t.name: t for t in gguf.GGUFReader(str(full)).tensors}
    compared, different = {}, []
    for tensor in gguf.GGUFReader(str(quantised)).tensors:
        kind = tensor.tensor_type.name.lower()
        if kind not in llama_cpp.BLOCK_BYTES:
            continue
        source = np.asarray(floats[tensor.name].data, np.float32).reshape(-1, int(tensor.shape[0]))
        compared[kind] = compared.get(kind, 0) + 1
        if llama_cpp.quantize(kind, source) != np.ascontiguousarray(tensor.data).tobytes():
            different.append(tensor.name)
    report(compared.get(name, 0) > 10 and not different,
           f"{name}: tensors byte for byte as ggml quantises them: {compared}" + (f", different: {different[:4]}" if different else ""))


def rows_for(model: llama_cpp.Model, prompt: str, continued: list[int]) -> np.ndarray:
    """llama.cpp's logits where each token of `continued` stands."""
    start = model.tokenize(prompt)
    model.reset()
    return model.evaluate(start + continued[:-1], range(len(start) - 1, len(start) + len(continued) - 1))


def furthest_below(rows: np.ndarray, tokens: list[int]) -> float:
    return float((rows.max(axis=1) - rows[range(len(tokens)), tokens]).max())


def check_text(quipu: str, name: str, path: pathlib.Path, scratch: pathlib.Path) -> None:
    written = [[t["id"] for t in json.loads(run(quipu, "run", path, prompt, "-n", STEPS, "--temp", 0, "--json"))["tokens"]] for prompt in PROMPTS]
    if any(len(tokens) != STEPS for tokens in written):
        # The token that ends a text is not among them.
        report(False, f"{name}: Quipu ends after {[len(tokens) for tokens in written]} tokens, expected {STEPS}")
        return
    written_in_all = sum(written, [])
    total = len(written_in_all)
    with llama_cpp.Model(path) as model:
        pairs = [(text, json.loads(run(quipu, "tokenize", path, text, "--json"))["ids"], model.tokenize(text)) for text in TEXTS]
        different = [f"{text!r}: {ours}, llama.cpp {theirs}" for text, ours, theirs in pairs if ours != theirs]
        report(not different, f"{name}: {len(pairs)} texts tokenised alike" + "".join(f"; {d}" for d in different))
        rows = np.concatenate([rows_for(model, prompt, tokens) for prompt, tokens in zip(PROMPTS, written)])
    kinds = {t.tensor_type.name for t in gguf.GGUFReader(str(path)).tensors}
    tie = TIE_K if any(kind.endswith("_K") or kind == "IQ4_XS" for kind in kinds) else TIE
    for prompt, part, tokens in zip(PROMPTS, np.split(rows, len(PROMPTS)), written):
        different = np.flatnonzero(part.argmax(axis=1) != tokens)
        if len(different):
            second, best = np.sort(part[different[0]])[-2:]
            report(best - second <= tie, f"{name}: {prompt!r}: token {different[0]} differs where llama.cpp's best two are {best - second:.3f} apart")
    equal, below = int((rows.argmax(axis=1) == written_in_all).sum()), furthest_below(rows, written_in_all)
    report(10 * equal >= 9 * total and below <= GAP_BOTH,
           f"{name}: llama.cpp would write {equal} of {total} tokens of a greedy text, too, and has the others at most {below:.3f} below its likeliest")
    values = scratch / "values.gguf"
    values.unlink(missing_ok=True)
    run(quipu, "quantize", path, values, "--type", "f32")
    with llama_cpp.Model(values, kv_type=0, flash_attention=0) as model:
        rows = np.concatenate([rows_for(model, prompt, tokens) for prompt, tokens in zip(PROMPTS, written)])
    below = furthest_below(rows, written_in_all)
    report(below <= (GAP_FLOAT if name in FLOATS else GAP), f"{name}: with inputs and values in f32, llama.cpp has these tokens at most {below:.3f} below its likeliest")


def check_split(quipu: str, demo: pathlib.Path, scratch: pathlib.Path) -> None:
    whole = scratch / "whole.gguf"
    run(quipu, "convert", demo, "-o", whole, "--type", "f16")
    run(quipu, "convert", demo, "-o", scratch / "part.gguf", "--type", "f16", "--split-size", "3M")
    parts = sorted(scratch.glob("part-*.gguf"))
    with llama_cpp.Model(whole) as one, llama_cpp.Model(parts[0]) as many:
        tokens = one.tokenize(PROMPTS[0])
        report(np.array_equal(one.evaluate(tokens), many.evaluate(tokens)), f"llama.cpp on a model in {len(parts)} parts: the logits of the whole file")


def check_family(quipu: str, name: str, checkpoint: pathlib.Path, scratch: pathlib.Path) -> None:
    path, values = scratch / "family.gguf", scratch / "family-f32.gguf"
    for out, kind in (path, "bf16"), (values, "f32"):
        out.unlink(missing_ok=True)
        run(quipu, "convert", checkpoint, "-o", out, "--type", kind)
    with llama_cpp.Model(path) as model:
        different = [text for text in TEXTS if json.loads(run(quipu, "tokenize", path, text, "--json"))["ids"] != model.tokenize(text)]
        report(not different, f"{name}: {len(TEXTS)} texts tokenised alike" + f", but not {different}" * bool(different))
    with llama_cpp.Model(values, kv_type=0, flash_attention=0) as model:
        # A random model may end a text early.
        written = [[t["id"] for t in json.loads(run(quipu, "run", path, prompt, "-n", STEPS, "--temp", 0, "--json"))["tokens"]] for prompt in PROMPTS]
        below = max(furthest_below(rows_for(model, prompt, tokens), tokens) for prompt, tokens in zip(PROMPTS, written) if tokens)
    count = sum(map(len, written))
    report(count >= STEPS and below <= GAP_FLOAT, f"{name}: {count} tokens of greedy texts are at most {below:.3f} below llama.cpp's likeliest, of the same weights in f32")


def check_gemma(quipu: str, path: pathlib.Path) -> None:
    if not path.exists():
        print(f"SKIPPED: llama-cpp: no {path} (tests/refs/fetch.sh)", flush=True)
        return
    turn = "<start_of_turn>user\nWhat is a llama?<end_of_turn>\n<start_of_turn>model\n"
    prompts = [PROMPTS[0], turn]
    with llama_cpp.Model(path, n_ctx=1024) as model:
        different = [text for text in TEXTS + [turn] if json.loads(run(quipu, "tokenize", path, text, "--json"))["ids"] != model.tokenize(text)]
        report(not different, f"gemma: {len(TEXTS) + 1} texts tokenised alike" + f", but not {different}" * bool(different))
        written = [[t["id"] for t in json.loads(run(quipu, "run", path, prompt, "-n", STEPS, "--temp", 0, "--json"))["tokens"]] for prompt in prompts]
        rows = [rows_for(model, prompt, tokens) for prompt, tokens in zip(prompts, written) if tokens]
        written = [tokens for tokens in written if tokens]
        equal = sum(int((part.argmax(axis=1) == tokens).sum()) for part, tokens in zip(rows, written))
        total, below = sum(map(len, written)), max(map(furthest_below, rows, written))
        report(total >= STEPS and 10 * equal >= 9 * total and below <= GAP_BOTH,
               f"gemma: llama.cpp would write {equal} of {total} tokens of greedy texts, too, and has the others at most {below:.3f} below its likeliest")
        ours = json.loads(run(quipu, "perplexity", path, "-f", TEXT, "-c", 1024, "--chunks", 2, "--json"))["ppl"]
        tokens = model.tokenize(TEXT.read_bytes())
        theirs = model.perplexity(TEXT.read_bytes(), n_ctx=1024, most=2)["perplexity"]
        report(len(tokens) > 2 * 1024 and abs(ours / theirs - 1) < 0.005, f"gemma: perplexity {ours:.3f}, llama.cpp {theirs:.3f} (2 chunks of 1024 tokens)")


def check_ggml_blocks(quipu: str, name: str, full: pathlib.Path, path: pathlib.Path) -> None:
    floats = {t.name: t for t in gguf.GGUFReader(str(full)).tensors}
    for tensor in gguf.GGUFReader(str(path), "r+").tensors:
        kind = tensor.tensor_type.name.lower()
        if kind in llama_cpp.BLOCK_BYTES:
            source = np.asarray(floats[tensor.name].data, np.float32).reshape(-1, int(tensor.shape[0]))
            tensor.data[:] = np.frombuffer(llama_cpp.quantize(kind, source), np.uint8).reshape(tensor.data.shape)
    check_perplexity(quipu, f"{name} with ggml's blocks", path)


def check_perplexity(quipu: str, name: str, path: pathlib.Path) -> None:
    ours = json.loads(run(quipu, "perplexity", path, "-f", TEXT, "--json"))["ppl"]
    with llama_cpp.Model(path) as model:
        theirs = model.perplexity(TEXT.read_bytes())
    report(abs(ours / theirs["perplexity"] - 1) < 0.01,
           f"{name}: perplexity {ours:.3f}, llama.cpp {theirs['perplexity']:.3f} ({theirs['scored']} tokens)")


def check_mix(quipu: str, quantize: str, name: str, full: pathlib.Path, scratch: pathlib.Path) -> None:
    paths = ours, theirs = scratch / "ours.gguf", scratch / "theirs.gguf"
    run(quipu, "quantize", full, ours, "--type", name)
    run(quantize, full, theirs, name, 1)
    kinds = [{t.name: t.tensor_type.name for t in gguf.GGUFReader(str(path)).tensors} for path in paths]
    different = [f"{tensor} {kind}, llama.cpp {kinds[1].get(tensor)}" for tensor, kind in kinds[0].items() if kind != kinds[1].get(tensor)]
    sizes = [path.stat().st_size for path in paths]
    report(not different and len(kinds[0]) == len(kinds[1]) and sizes[0] == sizes[1],
           f"{name}: {len(kinds[0])} tensors of llama-quantize's types in {sizes[0]} bytes, llama-quantize {sizes[1]}" + "".join(f"; {d}" for d in different[:4]))


def main() -> int:
    quipu, refs, demo = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    quantize = sys.argv[4] if len(sys.argv) > 4 else None
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        fixtures = pathlib.Path(__file__).parents[1] / "data"
        for directory in sorted((refs / "checkpoints").glob("*-*/")) + sorted(fixtures.glob("tiny-*/")):
            if json.loads((directory / "config.json").read_text())["model_type"] in NOT_THERE:
                continue
            try:
                check_checkpoint(quipu, directory, scratch)
            except (RuntimeError, llama_cpp.LlamaCppError) as error:
                report(False, f"{directory.name}: {error}")
        for name in FAMILIES:
            try:
                check_family(quipu, name, refs / "checkpoints" / f"{name}-bf16", scratch)
            except (RuntimeError, llama_cpp.LlamaCppError) as error:
                report(False, f"{name}: {error}")
        try:
            check_gemma(quipu, refs / "gemma3.gguf")
        except (RuntimeError, llama_cpp.LlamaCppError) as error:
            report(False, f"gemma: {error}")
        try:
            check_split(quipu, demo, scratch)
        except (RuntimeError, llama_cpp.LlamaCppError) as error:
            report(False, f"--split-size: {error}")
        full = scratch / "f32.gguf"
        for name in TYPES:
            path = scratch / f"{name}.gguf"
            try:
                run(quipu, "convert", demo, "-o", path, "--type", name)
                check_text(quipu, name, path, scratch)
                if name in PLAIN:
                    # The demo's one matrix for words would be Q6_K.
                    plain = ["--rounding", "plain", "--tensor", "token_embd.weight=q8_0"]
                    run(quipu, "convert", demo, "-o", path, "--type", name, *plain)
                    check_bytes(name, path, full)
                if name in MIXES:
                    check_ggml_blocks(quipu, name, full, path)
            except (RuntimeError, llama_cpp.LlamaCppError, KeyError) as error:
                report(False, f"{name}: {error!r}")
            if path != full:
                path.unlink(missing_ok=True)
        try:
            path = scratch / "chosen.gguf"
            run(quipu, "convert", demo, "-o", path, "--target-bits", 4.5)
            check_text(quipu, "chosen types", path, scratch)
            check_perplexity(quipu, "types chosen for 4.5 bits, calibrated by the model's own text", path)
        except (RuntimeError, llama_cpp.LlamaCppError) as error:
            report(False, f"--target-bits: {error!r}")
        if quantize is None:
            print("SKIPPED: llama-cpp: sizes of mixes are held against llama-quantize if its path is in LLAMA_QUANTIZE", flush=True)
        for name in MIXES if quantize else []:
            try:
                check_mix(quipu, quantize, name, full, scratch)
            except RuntimeError as error:
                report(False, f"{name}: {error!r}")
    return failures != 0


if __name__ == "__main__":
    sys.exit(main())
