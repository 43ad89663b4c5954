"""llama.cpp as a reference: the C library inside the `xllamacpp` wheel, called through ctypes.

The wheel's extension module exports llama.cpp's whole C interface. The two parameter structs change between versions, so they are taken
as opaque blocks from `llama_*_default_params` and patched at offsets that are checked against the known defaults first: a version whose
layout differs fails here, by name, instead of computing something else.
"""
import ctypes
import math
import struct

import numpy as np
import xllamacpp.xllamacpp as module

_lib = ctypes.CDLL(module.__file__)
_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_messages: list[str] = []
_log = _LOG(lambda level, text, _: _messages.append(text.decode(errors="replace")))


class _Params(ctypes.Structure):
    """Larger than either parameter struct; both are passed as last argument, so the callee reads only its own part."""
    _fields_ = [("bytes", ctypes.c_uint8 * 256)]


class _Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.POINTER(ctypes.c_float)),
                ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
                ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


def _declare(name: str, result, *arguments):
    function = getattr(_lib, name)
    function.restype, function.argtypes = result, arguments
    return function


_p, _i = ctypes.c_void_p, ctypes.c_int32
_backend_init = _declare("llama_backend_init", None)
_log_set = _declare("llama_log_set", None, _LOG, _p)
_model_params = _declare("llama_model_default_params", _Params)
_context_params = _declare("llama_context_default_params", _Params)
_load = _declare("llama_model_load_from_file", _p, ctypes.c_char_p, _Params)
_new = _declare("llama_init_from_model", _p, _p, _Params)
_vocab = _declare("llama_model_get_vocab", _p, _p)
_vocab_size = _declare("llama_vocab_n_tokens", _i, _p)
_add_bos = _declare("llama_vocab_get_add_bos", ctypes.c_bool, _p)
_bos = _declare("llama_vocab_bos", _i, _p)
_is_eog = _declare("llama_vocab_is_eog", ctypes.c_bool, _p, _i)
_tokenize = _declare("llama_tokenize", _i, _p, ctypes.c_char_p, _i, ctypes.POINTER(_i), _i, ctypes.c_bool, ctypes.c_bool)
_piece = _declare("llama_token_to_piece", _i, _p, _i, ctypes.c_char_p, _i, _i, ctypes.c_bool)
_memory = _declare("llama_get_memory", _p, _p)
_clear = _declare("llama_memory_clear", None, _p, ctypes.c_bool)
_batch_init = _declare("llama_batch_init", _Batch, _i, _i, _i)
_batch_free = _declare("llama_batch_free", None, _Batch)
_decode = _declare("llama_decode", _i, _p, _Batch)
_logits = _declare("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), _p, _i)
_free = _declare("llama_free", None, _p)
_free_model = _declare("llama_model_free", None, _p)
_quantize = _declare("ggml_quantize_chunk", ctypes.c_size_t, _i, _p, _p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, _p)
_chat_template = _declare("llama_model_chat_template", ctypes.c_char_p, _p, ctypes.c_char_p)

_log_set(_log, None)
_backend_init()


class LlamaCppError(Exception):
    """llama.cpp refused a file or an operation; carries the end of its log."""


# Offset of a 32-bit field in `llama_context_params`, and its default value.
_CONTEXT_FIELDS = {"n_ctx": (0, "I", 512), "n_batch": (4, "I", 2048), "n_ubatch": (8, "I", 512), "n_seq_max": (12, "I", 1),
                   "n_threads": (28, "i", 4), "n_threads_batch": (32, "i", 4), "flash_attn_type": (52, "i", -1),
                   "type_k": (104, "i", 1), "type_v": (108, "i", 1)}


def _context_parameters(**values) -> _Params:
    params = _context_params()
    raw = bytearray(params.bytes)
    for name, (offset, code, default) in _CONTEXT_FIELDS.items():
        found = struct.unpack_from("<" + code, raw, offset)[0]
        if found != default:
            raise LlamaCppError(f"llama_context_params.{name}: expected the default {default} at byte {offset}, found {found}: "
                                "this xllamacpp has another layout than the one in requirements.txt")
        if name in values:
            struct.pack_into("<" + code, raw, offset, values[name])
    return _Params((ctypes.c_uint8 * 256)(*raw))


def log_softmax(row: np.ndarray) -> np.ndarray:
    """Logprobs of one row of logits, in float64."""
    row = row.astype(np.float64)
    row = row - row.max()
    return row - math.log(np.exp(row).sum())


class Model:
    """A GGUF loaded by llama.cpp, with one context. `kv_type` is a ggml type id: 0 f32, 1 f16 (llama.cpp's default);
    `flash_attention` is -1 automatic (llama.cpp's default, on for a CPU), 0 off, 1 on."""

    def __init__(self, path, n_ctx: int = 1024, threads: int = 1, kv_type: int = 1, flash_attention: int = -1):
        _messages.clear()
        self._context = None
        self._model = _load(str(path).encode(), _model_params())
        if not self._model:
            raise LlamaCppError(f"{path}: llama.cpp cannot load it: " + "".join(_messages[-6:]).strip())
        self._n_batch = min(n_ctx, 512)
        self._context = _new(self._model, _context_parameters(
            n_ctx=n_ctx, n_batch=self._n_batch, n_ubatch=self._n_batch, n_threads=threads, n_threads_batch=threads,
            flash_attn_type=flash_attention, type_k=kv_type, type_v=kv_type))
        if not self._context:
            raise LlamaCppError(f"{path}: llama.cpp makes no context: " + "".join(_messages[-6:]).strip())
        self.vocab = _vocab(self._model)
        self.vocab_size = _vocab_size(self.vocab)
        self.add_bos = _add_bos(self.vocab)
        self.bos = _bos(self.vocab)
        self._at = 0

    def close(self):
        if self._context:
            _free(self._context)
        if self._model:
            _free_model(self._model)
        self._context = self._model = None

    __del__ = close

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def tokenize(self, text: str | bytes, special: bool = True, parse_special: bool = True) -> list[int]:
        data = text.encode() if isinstance(text, str) else text
        room = len(data) + 8
        out = (_i * room)()
        n = _tokenize(self.vocab, data, len(data), out, room, special, parse_special)
        if n < 0:
            raise LlamaCppError(f"llama_tokenize wants {-n} places for {len(data)} bytes")
        return list(out[:n])

    def piece(self, token: int, special: bool = True) -> bytes:
        buffer = ctypes.create_string_buffer(512)
        n = _piece(self.vocab, token, buffer, 512, 0, special)
        if n < 0:
            raise LlamaCppError(f"token {token}: piece of {-n} bytes")
        return buffer.raw[:n]

    def is_end(self, token: int) -> bool:
        return _is_eog(self.vocab, token)

    def chat_template(self) -> str | None:
        text = _chat_template(self._model, None)
        return None if text is None else text.decode()

    def reset(self):
        _clear(_memory(self._context), True)
        self._at = 0

    def evaluate(self, tokens: list[int], wanted=None) -> np.ndarray:
        """Feeds tokens after those already fed; returns float32 logits [len(wanted)][vocab] for the given indices into `tokens`
        (by default all)."""
        wanted = list(range(len(tokens))) if wanted is None else list(wanted)
        wanted_set, rows = set(wanted), {}
        for start in range(0, len(tokens), self._n_batch):
            part = tokens[start:start + self._n_batch]
            batch = _batch_init(len(part), 0, 1)
            batch.n_tokens = len(part)
            for k, token in enumerate(part):
                batch.token[k], batch.pos[k], batch.n_seq_id[k] = token, self._at + k, 1
                batch.seq_id[k][0] = 0
                batch.logits[k] = start + k in wanted_set
            status = _decode(self._context, batch)
            _batch_free(batch)
            if status != 0:
                raise LlamaCppError(f"llama_decode: {status}: " + "".join(_messages[-3:]))
            for k in range(len(part)):
                if start + k in wanted_set:
                    rows[start + k] = np.ctypeslib.as_array(_logits(self._context, k), (self.vocab_size,)).copy()
            self._at += len(part)
        return np.stack([rows[w] for w in wanted])

    def greedy(self, tokens: list[int], steps: int) -> list[int]:
        """The most likely continuation, ties to the lower id, ending after `steps` tokens or before an end-of-generation token."""
        self.reset()
        out, row = [], self.evaluate(tokens, [len(tokens) - 1])[0]
        for _ in range(steps):
            token = int(row.argmax())
            if self.is_end(token):
                break
            out.append(token)
            row = self.evaluate([token])[0]
        return out

    def perplexity(self, text: bytes, n_ctx: int = 512, most: int | None = None) -> dict:
        """What `llama-perplexity -c n_ctx` computes: whole chunks of n_ctx tokens, the first token of each replaced by BOS if the
        vocabulary adds one, the second half of each scored (positions n_ctx/2 + 1 and on)."""
        tokens, first = self.tokenize(text), n_ctx // 2
        chunks, total, count = min(len(tokens) // n_ctx, most or len(tokens)), 0.0, 0
        for chunk in range(chunks):
            part = list(tokens[chunk * n_ctx:(chunk + 1) * n_ctx])
            target = part[1:]
            if self.add_bos:
                part[0] = self.bos
            self.reset()
            rows = self.evaluate(part, range(first, n_ctx - 1))
            for k, row in enumerate(rows):
                total -= log_softmax(row)[target[first + k]]
                count += 1
        return {"perplexity": math.exp(total / count), "tokens": len(tokens), "chunks": chunks, "scored": count}


# ggml's type ids, by the names that Quipu uses.
TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_k": 10, "q3_k": 11, "q4_k": 12, "q5_k": 13,
         "q6_k": 14, "iq4_nl": 20, "iq4_xs": 23, "bf16": 30}
BLOCK_BYTES = {"q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22), "q5_1": (32, 24), "q8_0": (32, 34),
               "iq4_nl": (32, 18), "iq4_xs": (256, 136), "q2_k": (256, 84), "q3_k": (256, 110), "q4_k": (256, 144), "q5_k": (256, 176), "q6_k": (256, 210)}


def quantize(name: str, matrix: np.ndarray) -> bytes:
    """A float32 matrix [rows][columns] quantised by ggml, row after row, without an importance matrix."""
    matrix = np.ascontiguousarray(matrix, np.float32)
    rows, columns = matrix.shape
    block, size = BLOCK_BYTES[name]
    out = ctypes.create_string_buffer(rows * (columns // block) * size)
    written = _quantize(TYPES[name], matrix.ctypes.data, out, 0, rows, columns, None)
    if written != len(out):
        raise LlamaCppError(f"ggml_quantize_chunk({name}): {written} bytes, expected {len(out)}")
    return out.raw
