#!/usr/bin/env python3
"""A small SentencePiece model of Llama 2's kind, in both forms that checkpoints have it, for formats/tests/hf to compare with.

    sentencepiece_model.py TEXT OUT_DIR

Trains BPE with byte fallback on the first 6,000 lines of TEXT and writes tokenizer.model (SentencePiece's own), tokenizer.json (the same
for Hugging Face's tokenizers, merges listed by transformers' own `generate_merges`) and pieces.json: piece, score and type of every id
as sentencepiece says them. Before it writes, it checks that both forms give the same ids on all of TEXT.

Needs sentencepiece, tokenizers and transformers (without torch). tests/data/sentencepiece is this script's output for the tinyshakespeare
text of karpathy/char-rnn.
"""

import io
import json
import os
import pathlib
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers.convert_slow_tokenizer import generate_merges


def piece_type(model: sentencepiece.SentencePieceProcessor, i: int) -> int:
    """GGUF's number for the type, which is SentencePiece's own."""
    for number, is_type in [(2, model.is_unknown), (3, model.is_control), (5, model.is_unused), (6, model.is_byte)]:
        if is_type(i):
            return number
    return 4 if model.id_to_piece(i) == "<|user|>" else 1


def main() -> int:
    text, out = pathlib.Path(sys.argv[1]).read_text(), pathlib.Path(sys.argv[2])
    # From an iterator, since the model would keep the name of a file.
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")[:6000]), model_writer=written, model_type="bpe", vocab_size=600, byte_fallback=True,
        num_threads=1, normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.99995, split_digits=True,
        allow_whitespace_only_pieces=True, user_defined_symbols=["<|user|>"], minloglevel=2)
    model_bytes = written.getvalue()
    model = sentencepiece.SentencePieceProcessor(model_proto=model_bytes)
    ids = range(model.vocab_size())
    pieces = [[model.id_to_piece(i), model.get_score(i), piece_type(model, i)] for i in ids]
    vocab = {piece: i for i, (piece, _, _) in enumerate(pieces)}
    merges = generate_merges(vocab, {piece: score for piece, score, kind in pieces if kind == 1})

    fast = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    fast.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fast.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    fast.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("<unk>", "<s>", "</s>")])
    fast.add_tokens([AddedToken("<|user|>", normalized=False)])
    fast.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    for line in text.split("\n"):
        assert fast.encode(line, add_special_tokens=False).ids == (model.encode(line) if line else []), line

    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.model").write_bytes(model_bytes)
    (out / "tokenizer.json").write_text(json.dumps(json.loads(fast.to_str()), ensure_ascii=False, indent=0) + "\n")
    (out / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}) + "\n")
    (out / "pieces.json").write_text(json.dumps(pieces, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
