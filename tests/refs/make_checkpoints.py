#!/usr/bin/env python3
"""Small random checkpoints of every family in Hugging Face form, and what `transformers` computes from them.

    make_checkpoints.py OUT_DIR [--only NAME,NAME] [--dtypes f32,f16,bf16] [--fixtures]

Each directory OUT_DIR/NAME-DTYPE holds what `save_pretrained` writes (weights, config.json, tokenizer files) and beside it
`reference.json` (token ids, the positions whose logits are kept, the context limit if it is not the model's own, how they were computed) and `reference.f32` (logits, little-endian
float32, [positions][vocab]). The logits come from the weights as stored (rounded to DTYPE), in float64, so they stand for the exact
result; `float32_error` says how far transformers' own float32 run is from them, `quantised_kl` how far (mean Kullback-Leibler divergence, nats)
the same arithmetic is from them once weights and activations are rounded as in a file of that type.

Weights are drawn so that activations stay near 1, attention is peaked and logits spread over several units: an error in RoPE, in the
order of heads or in a mask moves the logits by much more than rounding does.

`--fixtures` writes the smallest ones, which are committed under tests/data.
"""
import argparse
import copy
import json
import math
import pathlib
import shutil
import sys

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.llama4 import modeling_llama4

torch.set_num_threads(1)

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEXT = """Once upon a time there was a llama who lived on the high plain. Every morning she walked to the river to drink, and every
evening she walked home again. The people of the plain kept their numbers on knotted cords, and the llama carried the cords from one
village to another. She could not read them, but she knew how heavy they were: a good harvest made a long cord."""


def byte_level_tokenizer(size: int) -> tuple[Tokenizer, dict]:
    """Llama 3's scheme (split pattern, byte-level BPE, `<|begin_of_text|>` first) with `size` tokens."""
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=size - len(special), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    tokenizer.add_special_tokens(special)
    bos = tokenizer.token_to_id(special[0])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{special[0]} $A", pair=f"{special[0]} $A {special[0]} $B", special_tokens=[(special[0], bos)])])
    return tokenizer, {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": special[0], "eos_token": special[1],
                       "clean_up_tokenization_spaces": False, "model_input_names": ["input_ids", "attention_mask"]}


def qwen_tokenizer(size: int) -> tuple[Tokenizer, dict]:
    """Qwen 2's scheme (NFC, split pattern with single digits, byte-level BPE, no token at the beginning) with `size` tokens."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_SPLIT.replace("{1,3}", "")), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=size - len(special), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    tokenizer.add_special_tokens(special)
    return tokenizer, {"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": False, "bos_token": None, "eos_token": special[2],
                       "pad_token": special[0], "chat_template": CHATML, "clean_up_tokenization_spaces": False,
                       "model_max_length": 2048}


CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def sentencepiece_tokenizer(size: int) -> tuple[Tokenizer, dict]:
    """Llama 2's scheme (SentencePiece-style BPE with byte fallback, `<s>` first) with `size` tokens."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    trained.train_from_iterator([TEXT.replace("\n", " ")], trainers.BpeTrainer(vocab_size=size - len(special), show_progress=False))
    learned = json.loads(trained.to_str())["model"]
    vocab = {token: i for i, token in enumerate(special)}
    for token, _ in sorted(learned["vocab"].items(), key=lambda item: item[1]):
        vocab.setdefault(token, len(vocab))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(m) for m in learned["merges"]], unk_token="<unk>", fuse_unk=True,
                                     byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special[:3]])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer, {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                       "add_bos_token": True, "add_eos_token": False, "legacy": True, "clean_up_tokenization_spaces": False}


def code_llama_tokenizer(size: int) -> tuple[Tokenizer, dict]:
    """Llama 2's scheme with the marks of Code Llama, which say what stands before and behind a gap."""
    marks = ["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"]
    tokenizer, config = sentencepiece_tokenizer(size - len(marks))
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    return tokenizer, config | {"tokenizer_class": "CodeLlamaTokenizer"}


def vision_tokenizer(size: int) -> tuple[Tokenizer, dict]:
    """Llama 3's scheme with the mark of an image, which is behind the last token that the model writes."""
    tokenizer, config = byte_level_tokenizer(size - 1)
    tokenizer.add_special_tokens(["<|image|>"])
    return tokenizer, config


def gemma_tokenizer(size: int) -> tuple[Tokenizer, dict]:
    """Gemma's scheme (SentencePiece-style BPE with byte fallback, no space before a text, `<bos>` first, turns with marks of their own)."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    turns = ["<start_of_turn>", "<end_of_turn>"]
    learned_from = special + [f"<0x{b:02X}>" for b in range(256)]
    trained.train_from_iterator([TEXT.replace("\n", " ")], trainers.BpeTrainer(vocab_size=size - len(learned_from) - len(turns), show_progress=False))
    learned = json.loads(trained.to_str())["model"]
    vocab = {token: i for i, token in enumerate(learned_from)}
    for token, _ in sorted(learned["vocab"].items(), key=lambda item: item[1]):
        vocab.setdefault(token, len(vocab))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(m) for m in learned["merges"]], unk_token="<unk>", fuse_unk=True,
                                     byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special + turns])
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 2)])
    return tokenizer, {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>",
                       "add_bos_token": True, "add_eos_token": False, "clean_up_tokenization_spaces": False, "chat_template": GEMMA_TURNS}


GEMMA_TURNS = ("{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + (message['role'] if message['role'] != 'assistant' else 'model') + "
               "'\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}")


def llama3_scaling(theta: float, factor: float, original: int) -> dict:
    return {"rope_type": "llama3", "rope_theta": theta, "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": original}


def opt_tokenizer(size: int) -> tuple[Tokenizer, dict]:
    """OPT's scheme (GPT-2's, `</s>` first, which is the beginning and the end) with `size` tokens."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="</s> $A", pair="</s> $A </s> $B", special_tokens=[("</s>", 2)])])
    return tokenizer, {"tokenizer_class": "GPT2Tokenizer", "bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>",
                       "add_bos_token": True, "add_prefix_space": False, "errors": "replace"}


MARKS = ["[START_REF]", "[END_REF]", "<work>", "</work>", "[START_AMINO]", "[END_AMINO]", "[START_SMILES]", "[END_SMILES]"]
# Brackets alone, and runs of one and the same sign.
SIGNS = r"""[\(\)\[\]\{\}]|([!"\#\$%\&'\*\+,\-\./:;<=>\?\\\^_`\|\~])\1*"""


def galactica_tokenizer(size: int) -> tuple[Tokenizer, dict]:
    """Galactica's scheme (NFKC, a marker between characters that must stay tokens of their own, single digits, runs of signs, no token at the
    beginning, marks for references, work and molecules) with `size` tokens."""
    special = ["<s>", "<pad>", "</s>", "<unk>", *MARKS]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split("SPL1T-TH1S-Pl3A5E", "removed"), pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.Split(Regex(SIGNS), "isolated"), pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    return tokenizer, {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": None, "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>",
                       "clean_up_tokenization_spaces": False}


TOKENIZERS = {"opt": opt_tokenizer, "galactica": galactica_tokenizer, "bytes": byte_level_tokenizer, "spm": sentencepiece_tokenizer, "codellama": code_llama_tokenizer, "vision": vision_tokenizer, "qwen": qwen_tokenizer, "gemma": gemma_tokenizer}


def rope(theta: float, **more) -> dict:
    return {"rope_type": "default", "rope_theta": theta, **more}


def global_and_local(theta: float, local: float, **more) -> dict:
    """The RoPEs of layers that see all and of those with a window."""
    return {"full_attention": {"rope_type": "default", "rope_theta": theta, **more}, "sliding_attention": {"rope_type": "default", "rope_theta": local}}


SLIDING, FULL = "sliding_attention", "full_attention"

# name: (what it is for is its name), config, and of the script's own: family (transformers' model_type; llama if it is missing), tokenizer, tokens in it, prompt length, positions kept (None: all),
# shard (largest shard), spelling (of config.json: transformers 4's or 5's).
CHECKPOINTS = {
    # Every dimension a multiple of 256, so every block format fits; the scaling's three bands all act within 600 positions.
    "llama32": dict(hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
                    vocab_size=416, tie_word_embeddings=True, rope_parameters=llama3_scaling(10000.0, 8.0, 128), rms_norm_eps=1e-5,
                    tokenizer="bytes", tokens=416, prompt=600),
    "llama2": dict(hidden_size=128, intermediate_size=352, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
                   vocab_size=400, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
                   rms_norm_eps=1e-6, tokenizer="spm", tokens=400, prompt=150, spelling=4),
    "head-dim": dict(hidden_size=96, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
                     vocab_size=320, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
                     rms_norm_eps=1e-5, tokenizer="bytes", tokens=320, prompt=100),
    "sharded": dict(hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2,
                    vocab_size=320, tie_word_embeddings=False, rope_parameters=llama3_scaling(500000.0, 32.0, 64), rms_norm_eps=1e-5,
                    tokenizer="bytes", tokens=320, prompt=100, shard="200KB", spelling=4),
    # No multiple of 16, and 8 rows more than the tokenizer has tokens, as padded real checkpoints do.
    "odd-vocab": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1,
                      vocab_size=317, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
                      rms_norm_eps=1e-5, tokenizer="bytes", tokens=309, prompt=60),
    # Nothing is a multiple of 32, so no block format fits and a conversion has to fall back.
    "odd-dims": dict(hidden_size=72, intermediate_size=100, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                     vocab_size=333, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
                     rms_norm_eps=1e-5, tokenizer="bytes", tokens=333, prompt=60),
    "biases": dict(hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                   vocab_size=320, tie_word_embeddings=False, attention_bias=True, mlp_bias=True,
                   rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, rms_norm_eps=1e-5, tokenizer="bytes", tokens=320, prompt=100),
    # A window over all layers, which a prompt of two pages crosses.
    "mistral": dict(family="mistral", hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                    vocab_size=400, tie_word_embeddings=False, sliding_window=100, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
                    rms_norm_eps=1e-5, tokenizer="spm", tokens=400, prompt=350, spelling=4),
    "linear": dict(hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                   vocab_size=320, tie_word_embeddings=True, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
                   rms_norm_eps=1e-5, tokenizer="bytes", tokens=320, prompt=300, spelling=4),
    # Biases of q, k and v; the pairs of RoPE half a head apart; no multiple of 32, so that conversions fall back.
    "qwen2-odd": dict(family="qwen2", hidden_size=72, intermediate_size=100, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
                      vocab_size=317, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
                      rms_norm_eps=1e-6, tokenizer="qwen", tokens=309, prompt=100),
    "qwen2": dict(family="qwen2", hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                  vocab_size=320, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
                  rms_norm_eps=1e-6, tokenizer="qwen", tokens=320, prompt=300, spelling=4),
    # A norm for each head of q and k; heads that are not hidden_size / num_attention_heads long.
    "qwen3-odd": dict(family="qwen3", hidden_size=72, intermediate_size=100, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
                      head_dim=20, vocab_size=317, tie_word_embeddings=True,
                      rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, rms_norm_eps=1e-6, tokenizer="qwen", tokens=309, prompt=100),
    "qwen3-biases": dict(family="qwen3", hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         head_dim=32, attention_bias=True, vocab_size=305, tie_word_embeddings=True,
                         rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, rms_norm_eps=1e-6, tokenizer="qwen", tokens=305, prompt=60),
    "qwen3": dict(family="qwen3", hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                  head_dim=96, vocab_size=320, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
                  rms_norm_eps=1e-6, tokenizer="qwen", tokens=320, prompt=300),
}
# Sisters of Llama, in the sizes that block formats fit, with the defaults of their families. Those with many layers have flatter attention (`peak`):
# otherwise each of them would add its own to what rounding costs.
MORE = dict(hidden_size=256, intermediate_size=512, num_attention_heads=4, num_key_value_heads=2, vocab_size=416, tokens=416, rms_norm_eps=1e-6,
            prompt=350, dtypes=["f32", "bf16"])
CHECKPOINTS |= {
    # Layers by the rule of six, with the linear stretching of the larger models for those that see all.
    "gemma3": dict(MORE, peak=0.6, family="gemma3_text", num_hidden_layers=7, head_dim=64, query_pre_attn_scalar=64, sliding_window=100, tie_word_embeddings=True,
                   rope_parameters=global_and_local(1000000.0, 10000.0, rope_type="linear", factor=8.0), tokenizer="gemma"),
    "gemma2": dict(MORE, family="gemma2", num_hidden_layers=4, head_dim=96, query_pre_attn_scalar=96, sliding_window=100, tie_word_embeddings=True,
                   rope_parameters=rope(10000.0), tokenizer="gemma"),
    # (llama.cpp expects some of Phi's own tokens where a name has phi3 in it.)
    "phi": dict(MORE, family="phi3", num_hidden_layers=3, sliding_window=None, tie_word_embeddings=False, rope_parameters=rope(10000.0, partial_rotary_factor=0.75),
                 tokenizer="spm"),
    "olmo2": dict(MORE, family="olmo2", num_hidden_layers=3, tie_word_embeddings=False, rope_parameters=rope(500000.0), tokenizer="qwen"),
    "olmo3": dict(MORE, peak=0.6, family="olmo3", num_hidden_layers=5, sliding_window=100, tie_word_embeddings=False, tokenizer="qwen",
                  rope_parameters=global_and_local(500000.0, 500000.0, rope_type="yarn", factor=4.0, original_max_position_embeddings=128)),
    "granite": dict(MORE, family="granite", num_hidden_layers=3, tie_word_embeddings=True, embedding_multiplier=1.5, residual_multiplier=0.22,
                    attention_multiplier=0.15, logits_scaling=2.0, rope_parameters=rope(10000.0), tokenizer="bytes"),
    # Mixtures of experts: eight of two, for which llama.cpp's mixes have types of their own, and sixteen of four.
    "mixtral": dict(MORE | dict(dtypes=["bf16"]), peak=0.3, family="mixtral", intermediate_size=256, num_hidden_layers=2, num_local_experts=8,
                    num_experts_per_tok=2, tie_word_embeddings=False, rope_parameters=rope(1000000.0), tokenizer="spm"),
    "qwen3moe": dict(MORE | dict(dtypes=["bf16"]), peak=0.6, family="qwen3_moe", num_hidden_layers=2, head_dim=96, moe_intermediate_size=256, num_experts=16,
                     num_experts_per_tok=4, norm_topk_prob=True, tie_word_embeddings=False, rope_parameters=rope(1000000.0), tokenizer="qwen"),
    "smollm3": dict(MORE, peak=0.6, family="smollm3", num_hidden_layers=5, tie_word_embeddings=True, rope_parameters=rope(2000000.0), tokenizer="bytes"),
}
# Without RoPE, in sizes that block formats fit: OPT-350M's form, and Galactica's function.
LEARNED = dict(family="opt", hidden_size=256, ffn_dim=512, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=512, vocab_size=416, tokens=416,
               prompt=350, dtypes=["bf16"])
CHECKPOINTS |= {
    "opt": dict(LEARNED, hidden_size=512, do_layer_norm_before=False, word_embed_proj_dim=256, tokenizer="opt"),
    "galactica": dict(LEARNED, activation_function="gelu", tokenizer="galactica"),
}
# With every way of stretching RoPE; `context` is the limit with which Quipu is asked, where it is not the model's own.
STRETCHED = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
                 vocab_size=309, tie_word_embeddings=True, rms_norm_eps=1e-5, tokenizer="bytes", tokens=309, dtypes=["bf16"],
                 keep=[0, 1, 2, 15, 16, 63, 64, 127, 128, 149])
LONGROPE = dict(STRETCHED, max_position_embeddings=1024, rope_parameters={
    "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 256,
    "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6], "long_factor": [1.0, 1.5, 2.0, 3.0, 4.5, 6.0, 8.0, 12.0]})
SISTER = dict(hidden_size=40, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=12, vocab_size=309,
              tie_word_embeddings=True, rms_norm_eps=1e-5, prompt=300, keep=[0, 1, 2, 39, 40, 41, 127, 128, 129, 170, 256, 299], dtypes=["bf16"])
OPT = dict(family="opt", hidden_size=40, ffn_dim=44, num_hidden_layers=2, num_attention_heads=5, max_position_embeddings=304, vocab_size=309, tokens=309,
           prompt=300, keep=[0, 1, 2, 39, 127, 128, 129, 170, 256, 299], dtypes=["bf16"], tokenizer="opt")
DYNAMIC = dict(STRETCHED, max_position_embeddings=160, rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0})
FIXTURES = {
    "tiny-yarn": dict(STRETCHED, max_position_embeddings=512, prompt=300, spelling=4, rope_parameters={
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}, keep=[0, 1, 2, 15, 128, 250, 299]),
    "tiny-yarn-betas": dict(STRETCHED, family="qwen2", tokenizer="qwen", tokens=305, max_position_embeddings=512, prompt=150, rope_parameters={
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 64, "beta_fast": 6.0, "beta_slow": 0.5,
        "mscale": 1.5, "mscale_all_dim": 0.5, "truncate": False}),
    "tiny-longrope-within": dict(LONGROPE, prompt=150, context=256),
    "tiny-longrope-beyond": dict(LONGROPE, prompt=300, spelling=4),
    "tiny-dynamic-within": dict(DYNAMIC, prompt=150, spelling=4),
    "tiny-dynamic-beyond": dict(DYNAMIC, prompt=300, context=300, keep=[0, 1, 2, 15, 128, 250, 299]),
    # Windows that cross pages, their layers listed; factors that are not the rule; no size a multiple of 32.
    "tiny-gemma3": dict(SISTER, family="gemma3_text", num_hidden_layers=3, query_pre_attn_scalar=20, sliding_window=40, final_logit_softcapping=25.0,
                        layer_types=[SLIDING, FULL, SLIDING], rope_parameters=global_and_local(1000000.0, 10000.0, rope_type="linear", factor=8.0),
                        tokenizer="gemma", tokens=317, vocab_size=320),
    "tiny-gemma2": dict(SISTER, family="gemma2", query_pre_attn_scalar=12, sliding_window=130, attn_logit_softcapping=8.0,
                        rope_parameters=rope(10000.0), tokenizer="gemma", tokens=317, vocab_size=317),
    "tiny-phi3": dict(SISTER, family="phi3", intermediate_size=48, sliding_window=33, tie_word_embeddings=False, hidden_size=64, head_dim=16,
                      rope_parameters=rope(10000.0, partial_rotary_factor=0.75), tokenizer="spm", tokens=309, keep=[*range(0, 290, 10), 299]),
    "tiny-olmo2": dict(SISTER, family="olmo2", hidden_size=48, tie_word_embeddings=False, rope_parameters=rope(500000.0), tokenizer="qwen", tokens=305),
    "tiny-olmo3": dict(SISTER, family="olmo3", hidden_size=48, sliding_window=1, tie_word_embeddings=False, layer_types=[FULL, SLIDING], tokenizer="qwen",
                       tokens=305, rope_parameters=global_and_local(10000.0, 10000.0, rope_type="yarn", factor=4.0, original_max_position_embeddings=128)),
    "tiny-granite": dict(SISTER, family="granite", embedding_multiplier=0.7, residual_multiplier=0.4, attention_multiplier=0.4, logits_scaling=1.5,
                         hidden_size=48, rope_parameters=rope(10000.0), tokenizer="bytes", tokens=309, spelling=4),
    "tiny-smollm3": dict(SISTER, family="smollm3", hidden_size=48, num_hidden_layers=3, no_rope_layers=[1, 0, 1], rope_parameters=rope(10000.0),
                         tokenizer="bytes", tokens=309),
    # With the two files of a tokenizer that OPT's repositories have.
    "tiny-opt": dict(OPT, tokenizer_files="gpt2"),
    # OPT-350M's form, in sizes of whole blocks, from PyTorch's file.
    "tiny-opt-after": dict(OPT, hidden_size=64, ffn_dim=96, num_attention_heads=4, do_layer_norm_before=False, word_embed_proj_dim=32, file="torch"),
    "tiny-galactica": dict(OPT, activation_function="gelu", vocab_size=320, tokens=317, tokenizer="galactica",
                           text="[START_REF] Cords, 1532!!! [END_REF]\n<work>\n((12.50 + 3)) == \u00bd ...</work>"
                                "[START_AMINO]MSPL1T-TH1S-Pl3A5EKSPL1T-TH1S-Pl3A5EV[END_AMINO] \ufb01ne"),
    # That of larger Galacticas.
    "tiny-galactica-bare": dict(OPT, activation_function="gelu", enable_bias=False, layer_norm_elementwise_affine=False, tokenizer="galactica",
                                tokens=305, prompt=60, keep=[0, 1, 2, 30, 58, 59]),
    "tiny-mistral": dict(SISTER, family="mistral", sliding_window=128, tie_word_embeddings=False, rope_parameters=rope(10000.0), tokenizer="spm",
                         tokens=309, spelling=4),
    # Layers that look at an image among those of a Llama, and an embedding with eight rows more than there are logits.
    "tiny-mllama": dict(
        family="mllama", tokenizer="vision", tokens=310, prompt=200, keep=[0, 1, 2, 31, 64, 127, 128, 199], dtypes=["bf16"],
        text_config=dict(hidden_size=48, intermediate_size=44, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, vocab_size=309,
                         cross_attention_layers=[1, 3], pad_token_id=0, rms_norm_eps=1e-5, rope_parameters=llama3_scaling(10000.0, 8.0, 32), tie_word_embeddings=False),
        vision_config=dict(hidden_size=8, num_hidden_layers=1, num_global_layers=1, attention_heads=2, intermediate_size=8, image_size=28, patch_size=7,
                           intermediate_layers_indices=[0], vision_output_dim=16)),
    # Granite 4's dense models, whose class has experts and Mamba, too.
    "tiny-granite4": dict(SISTER, intermediate_size=52, family="granitemoehybrid", embedding_multiplier=0.7, residual_multiplier=0.4, attention_multiplier=0.4,
                          logits_scaling=1.5, hidden_size=48, shared_intermediate_size=44, num_local_experts=0, num_experts_per_tok=0, layer_types=["full_attention"] * 2,
                          position_embedding_type="rope", mamba_n_heads=4, rope_parameters=rope(10000.0), tokenizer="bytes", tokens=309, prompt=150,
                          keep=[0, 1, 2, 39, 127, 128, 149]),
    # A base of a million for contexts of 16,384, and the marks for infilling (tests/refs/infill_reference.py).
    "tiny-codellama": dict(SISTER, tie_word_embeddings=False, rope_parameters=rope(1000000.0), max_position_embeddings=16384, tokenizer="codellama", tokens=330,
                           vocab_size=330, spelling=4),
    # Experts whose rows fill no group, and such that fill two; layers with and without them.
    "tiny-mixtral": dict(SISTER, family="mixtral", tokens=309, num_local_experts=5, num_experts_per_tok=2, tie_word_embeddings=False, rope_parameters=rope(10000.0),
                         tokenizer="spm", spelling=4),
    "tiny-qwen3moe": dict(SISTER, family="qwen3_moe", hidden_size=32, num_hidden_layers=3, moe_intermediate_size=32, num_experts=6, num_experts_per_tok=3,
                          norm_topk_prob=False, mlp_only_layers=[1], keep=[*range(0, 290, 10), 299], rope_parameters=rope(10000.0), tokenizer="qwen", tokens=305),
    # Chunks that cross pages, layers that see all, with and without experts; and a dense model without norms of heads.
    "tiny-llama4": dict(SISTER, family="llama4_text", hidden_size=32, intermediate_size=32, intermediate_size_mlp=48, num_hidden_layers=4, num_local_experts=5,
                        num_experts_per_tok=2, interleave_moe_layer_step=2, attention_chunk_size=40, floor_scale=30, attn_scale=0.2, rope_parameters=rope(10000.0),
                        tokenizer="bytes", tokens=309, keep=[*range(0, 290, 10), 299]),
    "tiny-llama4-dense": dict(SISTER, family="llama4_text", intermediate_size_mlp=44, num_hidden_layers=3, moe_layers=[], use_qk_norm=False, attention_chunk_size=130,
                              no_rope_layers=[1, 0, 1], floor_scale=64, rope_parameters=rope(10000.0), tokenizer="bytes", tokens=309),
    "tiny-llama3": dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                        vocab_size=309, tie_word_embeddings=True, rope_parameters=llama3_scaling(10000.0, 8.0, 32), rms_norm_eps=1e-5,
                        tokenizer="bytes", tokens=309, prompt=200, keep=[0, 1, 2, 15, 16, 31, 63, 64, 100, 127, 128, 198, 199], dtypes=["bf16"]),
    "tiny-llama2": dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, head_dim=24,
                        vocab_size=320, tie_word_embeddings=False, attention_bias=True, mlp_bias=True,
                        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}, rms_norm_eps=1e-6,
                        tokenizer="spm", tokens=320, prompt=80, keep=[0, 1, 2, 15, 16, 40, 63, 64, 79], dtypes=["f16"], shard="100KB", spelling=4),
    "tiny-qwen2": dict(family="qwen2", hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                       vocab_size=309, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
                       rms_norm_eps=1e-6, tokenizer="qwen", tokens=305, prompt=80, keep=[0, 1, 2, 15, 16, 40, 63, 64, 79], dtypes=["bf16"]),
    "tiny-qwen3": dict(family="qwen3", hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                       head_dim=24, vocab_size=309, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
                       rms_norm_eps=1e-6, tokenizer="qwen", tokens=305, prompt=80, keep=[0, 1, 2, 15, 16, 40, 63, 64, 79], dtypes=["bf16"]),
}


def draw_weights(model: torch.nn.Module, generator: torch.Generator, peak: float) -> None:
    """Projections whose outputs have a spread near 1 (queries and keys 1.7, so that attention is peaked, as are the norms of their heads
    where there are any; both `peak` times that), other norms in [0.5, 1.5], biases 0.3."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "vision_model." in name or "multi_modal_projector." in name:
            value = 0.1 * noise
        elif name.endswith(".bias"):
            value = 0.3 * noise
        elif name.endswith(("q_norm.weight", "k_norm.weight")):
            value = peak * (1.2 + torch.rand(parameter.shape, generator=generator))
        elif parameter.ndim == 1:
            value = 0.5 + torch.rand(parameter.shape, generator=generator)
            if model.config.model_type.startswith("gemma") and name.split(".")[-2] in ("post_attention_layernorm", "post_feedforward_layernorm"):
                # As much as its large embeddings.
                value *= 3
        elif "embed_positions" in name:
            value = noise * 0.5
        elif "embed_tokens" in name or "lm_head" in name:
            value = noise * 3.0 / parameter.shape[1] ** 0.5
        else:
            spread = {"input_linear": 1.2, "output_linear": 0.7, "qkv_proj": 1.4, "gate_up_proj": 1.2, "q_proj": 1.7 * peak, "k_proj": 1.7 * peak, "v_proj": 1.0, "o_proj": 0.7, "gate_proj": 1.5, "up_proj": 1.0, "down_proj": 0.7,
                      "out_proj": 0.7, "fc1": 1.5, "fc2": 0.7, "project_in": 1.0, "project_out": 1.0, "gate": 3.0, "router": 3.0}
            # Experts' matrices are one parameter, without `.weight`; Llama 4 has their inputs first.
            inputs = parameter.shape[1 if parameter.ndim == 3 and model.config.model_type == "llama4_text" else -1]
            value = noise * spread[name.split(".")[-1 if parameter.ndim == 3 else -2]] / inputs ** 0.5
        if parameter.ndim == 1 and model.config.model_type.startswith("gemma"):
            # transformers adds 1 to it.
            value = value - 1
        parameter.data.copy_(value)


def spell_as_transformers_4(path: pathlib.Path) -> None:
    """Rewrites config.json as transformers 4 spells it: `rope_theta` + `rope_scaling`, `torch_dtype`, no `head_dim` where it is implied."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    rope.pop("partial_rotary_factor", None)
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.45.0"
    if config.get("head_dim", 0) * config["num_attention_heads"] == config["hidden_size"]:
        del config["head_dim"]
    path.write_text(json.dumps(config, indent=2) + "\n")


def exact_rope(model: torch.nn.Module, rope: dict, length: int) -> None:
    """Lets a float64 model rotate in float64, a text of `length` tokens at once. transformers computes frequencies, angles and their cosines in
    float32 whatever the model's type, which at position 600 is worth 4e-5 of a turn; the frequencies here are its formulas (Llama 3.1's
    reference code for `llama3`), held against its own float32 ones."""
    if rope is None:
        return
    embedding = getattr(model.model, "language_model", model.model).rotary_emb
    ropes = {kind: rope[kind] for kind in (FULL, SLIDING) if kind in rope}
    if ropes:
        angles = {kind: exact_angles(model, one, getattr(embedding, f"{kind}_inv_freq"), length) for kind, one in ropes.items()}
        embedding.forward = lambda x, position_ids, layer_type: angles[layer_type](position_ids, getattr(embedding, f"{layer_type}_attention_scaling"))
        return
    # What depends on the length is chosen by the first call.
    embedding(torch.zeros(1), torch.arange(length)[None])
    angles = exact_angles(model, rope, embedding.inv_freq, length)
    if model.config.model_type == "llama4_text":
        # Turns complex numbers, which it makes of floats.
        def turn(q, k, turns):
            return tuple(torch.view_as_real(torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * turns[:, :, None]).flatten(3) for x in (q, k))

        def turns(x, position_ids):
            cos, sin = (half.chunk(2, -1)[0] for half in angles(position_ids, embedding.attention_scaling))
            return torch.complex(cos, sin).to(torch.complex128 if x.dtype == torch.float64 else torch.complex64)

        modeling_llama4.apply_rotary_emb, embedding.forward = turn, turns
        return
    embedding.forward = lambda x, position_ids: angles(position_ids, embedding.attention_scaling)


def exact_angles(model: torch.nn.Module, rope: dict, inv_freq: torch.Tensor, length: int):
    """The function that gives cosines and sines at positions, of one RoPE whose float32 frequencies transformers has as `inv_freq`."""
    dim = 2 * inv_freq.numel()
    theta, kind = rope["rope_theta"], rope["rope_type"]
    if kind == "dynamic":
        longer = max(length / model.config.max_position_embeddings, 1.0)
        theta *= (rope["factor"] * longer - (rope["factor"] - 1)) ** (dim / (dim - 2))
    frequency = theta ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    original = rope.get("original_max_position_embeddings", 1)
    if kind == "linear":
        frequency /= rope["factor"]
    elif kind == "llama3":
        turns = original * frequency / (2 * math.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        keep = ((turns - low) / (high - low)).clamp(0, 1)
        frequency = frequency * (keep + (1 - keep) / rope["factor"])
    elif kind == "yarn":
        pair = [dim * math.log(original / (beta * 2 * math.pi)) / (2 * math.log(theta)) for beta in (rope.get("beta_fast", 32), rope.get("beta_slow", 1))]
        low, high = (math.floor(pair[0]), math.ceil(pair[1])) if rope.get("truncate", True) else pair
        low, high = max(low, 0), min(high, dim - 1)
        divided = ((torch.arange(dim // 2, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
        frequency = frequency * (1 - divided + divided / rope["factor"])
    elif kind == "longrope":
        frequency /= torch.tensor(rope["long_factor" if length > original else "short_factor"], dtype=torch.float64)
    assert torch.allclose(frequency, inv_freq.double(), rtol=2e-6, atol=0), f"{rope}: other frequencies than transformers"

    def angles(position_ids, scaling):
        angle = position_ids[..., None].double() * frequency
        angle = torch.cat((angle, angle), -1)
        return angle.cos() * scaling, angle.sin() * scaling

    return angles


def quantise(model: torch.nn.Module, kind: str) -> None:
    """Turns a float64 model into what a file of this type computes: matrices as ggml's rule rounds them (llama.cpp's choice of type for
    the output matrix, F16 where a row is no whole number of blocks), and the inputs of quantised ones rounded per 32 values to
    multiples of a 127th of the largest."""
    def rounded(matrix: torch.Tensor, kind: str) -> torch.Tensor:
        if matrix.shape[1] % 32:
            return matrix.half().double()
        ty = gguf.GGMLQuantizationType[kind]
        return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(matrix.float().numpy(), ty), ty)).double()

    def rounded_input(x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] % 32:
            return x
        blocks = x.reshape(-1, 32)
        step = blocks.abs().amax(1, keepdim=True) / 127
        return ((blocks / step.where(step > 0, torch.ones_like(step))).round() * step).reshape(x.shape)

    def round_experts(experts: torch.nn.Module) -> None:
        """The matrices of each expert, and the inputs of both its products."""
        inputs_first = model.config.model_type == "llama4_text"
        for bank in (experts.gate_up_proj, experts.down_proj):
            bank.data = torch.stack([rounded(matrix.T, kind).T if inputs_first else rounded(matrix, kind) for matrix in bank.data])
        if inputs_first:
            def forward_all(x):
                x = rounded_input(x.view(len(experts.gate_up_proj), -1, x.shape[-1]))
                gate, up = torch.bmm(x, experts.gate_up_proj).chunk(2, -1)
                return torch.bmm(rounded_input(experts.act_fn(gate) * up), experts.down_proj).flatten(0, 1)

            experts.forward = forward_all
            return

        def forward(x, chosen, weights):
            sums = torch.zeros_like(x)
            for expert in chosen.unique():
                token, place = torch.where(chosen == expert)
                gate, up = torch.nn.functional.linear(rounded_input(x[token]), experts.gate_up_proj[expert]).chunk(2, -1)
                out = torch.nn.functional.linear(rounded_input(experts.act_fn(gate) * up), experts.down_proj[expert])
                sums.index_add_(0, token, out * weights[token, place, None])
            return sums

        experts.forward = forward

    tied = model.config.get_text_config().tie_word_embeddings
    embedding = model.get_input_embeddings()
    embedding.weight = torch.nn.Parameter(rounded(embedding.weight.data, "Q8_0" if tied else kind))
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and not name.endswith("router") and "vision_model." not in name:
            if name == "lm_head":
                module.weight = embedding.weight if tied else torch.nn.Parameter(rounded(module.weight.data, "Q8_0"))
            else:
                module.weight.data = rounded(module.weight.data, kind)
            module.register_forward_pre_hook(lambda _, inputs: rounded_input(inputs[0]))
        elif name.endswith(".experts"):
            round_experts(module)


def make(out: pathlib.Path, name: str, dtype: str, spec: dict) -> None:
    spec = copy.deepcopy(spec)
    family = spec.pop("family", "llama")
    kind, tokens, length = spec.pop("tokenizer"), spec.pop("tokens"), spec.pop("prompt")
    sample = spec.pop("text", TEXT[:60])
    file, tokenizer_files = spec.pop("file", "safetensors"), spec.pop("tokenizer_files", None)
    shard, spelling, keep = spec.pop("shard", "1GB"), spec.pop("spelling", 5), spec.pop("keep", None)
    spec.pop("dtypes", None)
    context, peak = spec.pop("context", None), spec.pop("peak", 1.0)
    text = spec.get("text_config", spec)
    text.setdefault("max_position_embeddings", 2048)
    auto = AutoModelForImageTextToText if "vision_config" in spec else AutoModelForCausalLM
    target = out / f"{name}-{dtype}"
    if (target / "reference.json").exists():
        print(f"{target.name}: kept")
        return
    shutil.rmtree(target, ignore_errors=True)
    tokenizer, tokenizer_config = TOKENIZERS[kind](tokens)
    assert tokenizer.get_vocab_size() == tokens, f"{name}: the tokenizer has {tokenizer.get_vocab_size()} tokens, expected {tokens}"
    bos, eos = (tokenizer_config[k] and tokenizer.token_to_id(tokenizer_config[k]) for k in ("bos_token", "eos_token"))

    config = AutoConfig.for_model(family, bos_token_id=bos, eos_token_id=eos, pad_token_id=None, **spec)
    model = auto.from_config(config).eval()
    seed = sum(map(ord, name))
    draw_weights(model, torch.Generator().manual_seed(seed), peak)
    model = model.to(DTYPES[dtype])
    model.save_pretrained(target, max_shard_size=shard)
    if file == "torch":
        # As the oldest repositories have it: with the output matrix beside the embedding that it is.
        (target / "model.safetensors").unlink()
        torch.save(model.state_dict(), target / "pytorch_model.bin")
    if tokenizer_files == "gpt2":
        tokenizer.model.save(str(target))
    else:
        tokenizer.save(str(target / "tokenizer.json"))
    (target / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=1) + "\n")
    if spelling == 4:
        spell_as_transformers_4(target / "config.json")

    # Loaded again from disk: the reference speaks of the files, not of the model in memory.
    experts = {"experts_implementation": "eager"} if family in ("mixtral", "qwen3_moe") else {}
    loaded = auto.from_pretrained(target, dtype=torch.float32, attn_implementation="eager", **experts).eval()
    assert all(torch.equal(loaded.state_dict()[k], v.float()) for k, v in model.state_dict().items()), f"{name}: loading changed a weight"
    # Where nothing marks the beginning, a token of text is there.
    ids = [bos if bos is not None else tokens // 2] + np.random.default_rng(seed).integers(3, tokens - 8, length - 1).tolist()
    with torch.no_grad():
        single = loaded(torch.tensor([ids])).logits[0].double()
        exact_rope(loaded.double(), text.get("rope_parameters"), length)
        exact = loaded(torch.tensor([ids])).logits[0]
        positions = list(range(length)) if keep is None else keep
        divergence = {}
        for kind in ("Q8_0", "Q5_1", "Q4_0"):
            other = copy.deepcopy(loaded)
            exact_rope(other, text.get("rope_parameters"), length)
            quantise(other, kind)
            p, q = exact.log_softmax(-1), other(torch.tensor([ids])).logits[0].log_softmax(-1)
            divergence[kind] = (p.exp() * (p - q)).sum(-1)[positions].mean().item()
    kept = exact[positions]
    kept.to(torch.float32).numpy().astype("<f4").tofile(target / "reference.f32")
    error = (single - exact).abs().max().item()
    top = exact.softmax(-1).max(-1).values
    import transformers
    (target / "reference.json").write_text(json.dumps({
        "made_by": f"tests/refs/make_checkpoints.py, transformers {transformers.__version__}, torch {torch.__version__}, float64 (RoPE too)",
        "vocab_size": text["vocab_size"], "tokens": ids, "positions": positions, **({"context": context} if context else {}), "float32_error": error, "quantised_kl": divergence,
        "logit_spread": exact.std().item(), "text": sample, "text_tokens": tokenizer.encode(sample).ids}) + "\n")
    print(f"{target.name}: float32 error {error:.2e}, logit spread {exact.std().item():.2f}, mean top probability {top.mean().item():.2f}, KL " +
          ", ".join(f"{kind} {kl:.1e}" for kind, kl in divergence.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--dtypes", default="f32,f16,bf16")
    parser.add_argument("--fixtures", action="store_true")
    arguments = parser.parse_args()
    chosen = FIXTURES if arguments.fixtures else CHECKPOINTS
    for name, spec in chosen.items():
        if arguments.only and name not in arguments.only.split(","):
            continue
        for dtype in spec.get("dtypes", arguments.dtypes.split(",")):
            make(arguments.out, name, dtype, spec)
    return 0


if __name__ == "__main__":
    sys.exit(main())
