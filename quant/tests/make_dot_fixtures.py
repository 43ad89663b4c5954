#!/usr/bin/env python3
"""Makes data/dot_TYPE.bin: dot products by the definition in src/activations.rs and src/dot.rs, in exact arithmetic.

    pip install gguf numpy xllamacpp
    python3 make_dot_fixtures.py

A second implementation, made of other parts: ggml takes the blocks apart (codes come out when all scales are one, scales
when all codes are one), and a fused multiply-add is a fraction rounded once.

Content: u32 rows, u32 columns, the weight rows, activations as f32[columns], quantised activations as i8[columns],
f32[columns / 32] scales and i32[columns / 32] sums (only for types with blocks), then f32[rows] dot products.
"""

import math
import struct
from fractions import Fraction

import gguf
import numpy as np

from make_fixtures import DATA, F16_SCALES, Type, dequantize, numbers_for

ROWS, COLS = 8, 512
f32 = np.float32


def round_f32(x):
    """The f32 nearest to the fraction x, ties to even; no subnormals or overflow appear here."""
    if x == 0:
        return f32(0)
    exponent = math.floor(math.log2(abs(float(x)))) - 23
    for e in (exponent - 1, exponent, exponent + 1):
        if 2**23 <= abs(scaled := x / Fraction(2) ** e) < 2**24:
            return f32(math.ldexp(round(scaled), e))
    raise AssertionError(x)


def fma(a, b, c):
    return round_f32(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))


def unfused(a, b, c):
    return f32(a * b) + c


def quantize_activations(x):
    blocks = x.reshape(-1, 32)
    d = np.abs(blocks).max(axis=1) / f32(127)
    q = np.rint(blocks * (f32(1) / d)[:, None])
    assert d.dtype == np.float32 and d.min() > 1e-30 and np.abs(q).max() == 127
    return q.astype(np.int8), d, q.astype(np.int32).sum(axis=1).astype(np.int32)


def random_row(rng, name):
    length, size = gguf.GGML_QUANT_SIZES[Type[name]]
    blocks = rng.integers(0, 256, (COLS // length, size), dtype=np.uint8)
    for offset in F16_SCALES[name]:
        scales = rng.normal(0, 0.01, len(blocks)).astype(np.float16)
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    if name == "MXFP4":
        blocks[:, 0] = rng.integers(118, 126, len(blocks))
    return blocks


def with_f16(blocks, offset, value):
    blocks = blocks.copy()
    blocks[:, offset : offset + 2] = np.array([value], dtype=np.float16).view(np.uint8)
    return blocks


def take_apart(name, blocks):
    """For every 32 weights: integer values, scale or one for each half, what is added (None, one number or one for each half)."""
    if name == "MXFP4":
        # Integers are twice the numbers, so for them the exponent of one is 128 instead of 127.
        ones = blocks.copy()
        ones[:, 0] = 128
        return dequantize(name, ones).reshape(-1, 32), np.ldexp(f32(1), blocks[:, 0].astype(int) - 128), None
    halves = F16_SCALES[name]
    ones = with_f16(blocks, halves[0], 1)
    if len(halves) == 2:
        ones = with_f16(ones, halves[1], 0)
    d = blocks[:, halves[0] : halves[0] + 2].copy().view(np.float16).astype(f32)[:, 0]
    if name == "TQ2_0":
        return dequantize(name, ones).reshape(-1, 32), np.repeat(d, 8), None
    if name == "Q6_K":
        scales = blocks[:, 192:208].view(np.int8).reshape(-1, 2).astype(int)
        ones[:, 192:208] = 1
        return dequantize(name, ones).reshape(-1, 32), np.repeat(d, 8)[:, None] * scales.astype(f32), None
    if name == "Q2_K":
        ones[:, :16] = 1
        q = dequantize(name, ones).reshape(-1, 32)
        dmin = blocks[:, 82:84].copy().view(np.float16).astype(f32)
        scales, mins = blocks[:, :16] & 15, blocks[:, :16] >> 4
        return q, (d[:, None] * scales).astype(f32).reshape(-1, 2), -(dmin * mins).astype(f32).reshape(-1, 2)
    if name in ("Q3_K", "IQ4_XS"):
        # Scales of one: 33 in the 6-bit fields. Then codes that all stand for one number, to see the scales.
        at = slice(96, 108) if name == "Q3_K" else slice(2, 8)
        number = 1 if name == "Q3_K" else 25
        ones[:, at] = {"Q3_K": [0x11] * 8 + [0xAA] * 4, "IQ4_XS": [0xAA] * 2 + [0x11] * 4}[name]
        q = dequantize(name, ones).reshape(-1, 32)
        codes = with_f16(blocks, halves[0], 1)
        if name == "Q3_K":
            codes[:, :32], codes[:, 32:96] = 0xFF, 0x55
        else:
            codes[:, 8:] = 0xAA
        scales = dequantize(name, codes).reshape(-1, 2, 16)[:, :, 0] / number
        if name == "Q3_K":
            return q, np.repeat(d, 8)[:, None] * scales, None
        return q, np.repeat(d, 8) * scales[:, 0], None
    if not name.endswith("K"):
        m = blocks[:, 2:4].copy().view(np.float16).astype(f32)[:, 0] if len(halves) == 2 else None
        return dequantize(name, ones).reshape(-1, 32), d, m
    # Scales of one and minima of zero in the 6-bit fields: bytes 0..4 and the low halves of 8..12.
    ones[:, 4:16] = np.array([1] * 4 + [0] * 4 + [1] * 4, dtype=np.uint8)
    q = dequantize(name, ones).reshape(-1, 32)
    codes = blocks.copy()
    codes[:, 16:] = 0
    minima = dequantize(name, with_f16(codes, 0, 0)).reshape(-1, 32)[:, 0]
    codes[:, -128:] = 0x11
    scales = dequantize(name, with_f16(codes, 2, 0)).reshape(-1, 32)[:, 0]
    return q, scales, minima


def dot(name, blocks, activations, fma):
    q, d, minima = take_apart(name, blocks)
    assert d.dtype == np.float32
    acc = f32(0)
    for b, (x, x_d, x_sum) in enumerate(zip(*activations)):
        first, second = (q[b].astype(int) * x.astype(int)).reshape(2, 16).sum(axis=1)
        if d.ndim == 1:
            acc = fma(d[b] * x_d, f32(first + second), acc)
        else:
            acc = fma(fma(d[b, 1], f32(second), d[b, 0] * f32(first)), x_d, acc)
        if minima is not None and minima.ndim == 1:
            acc = fma(minima[b], x_d * f32(x_sum), acc)
        elif minima is not None:
            for minimum, half in zip(minima[b], x.astype(int).reshape(2, 16)):
                acc = fma(minimum, x_d * f32(half.sum()), acc)
    return acc


def main():
    rng = np.random.default_rng(7)
    x = rng.normal(0, 1, COLS).astype(f32)
    activations = quantize_activations(x)
    for name in F16_SCALES:
        numbers = numbers_for(name, rng)
        rows = [random_row(numbers, name) for _ in range(ROWS)]
        results = np.array([dot(name, row, activations, fma) for row in rows], dtype=f32)
        other = sum(dot(name, row, activations, unfused) != result for row, result in zip(rows, results))
        print(f"{name}: {other} of {ROWS} would differ without fma")
        parts = [np.stack(rows), x, *activations, results]
        (DATA / f"dot_{name}.bin").write_bytes(struct.pack("<II", ROWS, COLS) + b"".join(p.tobytes() for p in parts))
    for name in ["F32", "F16", "BF16"]:
        bits = (rng.normal(0, 0.02, (ROWS, COLS)).astype(f32).view(np.uint32) + 0x8000) >> 16
        weights = {
            "F32": rng.normal(0, 0.02, (ROWS, COLS)).astype(f32),
            "F16": rng.normal(0, 0.02, (ROWS, COLS)).astype(np.float16),
            "BF16": bits.astype(np.uint16),
        }[name]
        values = (bits << 16).astype(np.uint32).view(f32) if name == "BF16" else weights.astype(f32)
        results = np.zeros(ROWS, dtype=f32)
        for r in range(ROWS):
            for k in range(COLS):
                results[r] = fma(values[r, k], x[k], results[r])
        data = struct.pack("<II", ROWS, COLS) + weights.tobytes() + x.tobytes() + results.tobytes()
        (DATA / f"dot_{name}.bin").write_bytes(data)


if __name__ == "__main__":
    main()
