#!/usr/bin/env python3
"""Makes the fixtures in data/ with ggml itself and checks them against the `gguf` package.

    pip install gguf numpy xllamacpp
    python3 make_fixtures.py

xllamacpp carries ggml as C functions (`ggml_quantize_chunk`, `dequantize_row_*`, `ggml_fp32_to_fp16_row`,
`ggml_fp32_to_bf16_row`), which are called here through ctypes.

data/dequantize_TYPE.bin: u32 number of blocks, the blocks (random bytes; scales any f16 but NaN, of MXFP4 all there are), then the
f32 values.
data/quantize_input.bin:  f32 values, a multiple of 256.
data/quantize_TYPE.bin:   the blocks made of quantize_input.bin.
All numbers are little-endian.

Where the two disagree, ggml counts. They do for blocks of zeros only: ggml computes their scale as 0 / -8 = -0 and keeps
the sign of a zero minimum.
"""

import ctypes
import pathlib
import struct

import gguf
import numpy as np
import xllamacpp.xllamacpp as module

DATA = pathlib.Path(__file__).parent / "data"
ggml = ctypes.CDLL(module.__file__)
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int] + [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
Type = gguf.GGMLQuantizationType

# Byte offsets of the f16 scales in a block.
F16_SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "Q2_K": [80, 82], "Q3_K": [108], "IQ4_NL": [0], "IQ4_XS": [0], "TQ2_0": [64], "MXFP4": [],
}
# Those that came later have random numbers of their own, so that the data of the others stays as it is.
LATER = ["Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "TQ2_0", "MXFP4"]


def numbers_for(name, rng):
    return np.random.default_rng(Type[name].value) if name in LATER else rng



def random_blocks(rng, name, count):
    size = gguf.GGML_QUANT_SIZES[Type[name]][1]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for n, offset in enumerate(F16_SCALES[name]):
        bits = rng.integers(0, 1 << 16, count).astype(np.uint16)
        # Zeros of both signs, the smallest and largest subnormal, the smallest and largest normal, infinity.
        special = np.array([0, 0x8000, 1, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00], dtype=np.uint16)
        bits[8 * n : 8 * n + 8] = special
        bits[np.isnan(bits.view(np.float16))] = 0x3C01
        blocks[:, offset : offset + 2] = bits.view(np.uint8).reshape(count, 2)
    if name == "MXFP4":
        blocks[:, 0] = np.arange(count)
    return blocks


def block_count(name):
    if name == "MXFP4":
        return 256
    return 24 if gguf.GGML_QUANT_SIZES[Type[name]][0] == 256 else 64


def dequantize(name, blocks):
    values = np.empty(blocks.shape[0] * gguf.GGML_QUANT_SIZES[Type[name]][0], dtype=np.float32)
    function = getattr(ggml, f"dequantize_row_{name.lower().replace('_k', '_K')}")
    function(ctypes.c_void_p(blocks.ctypes.data), ctypes.c_void_p(values.ctypes.data), ctypes.c_int64(values.size))
    return values


def quantize_input(rng):
    """Rows of 256 values, each row a different kind of hard."""
    rows = []

    def row(x):
        rows.append(np.resize(np.asarray(x, dtype=np.float32), 256))

    for scale in [1e-30, 1e-6, 0.02, 1.0, 300.0, 1e5, 1e30]:
        row(rng.normal(0, scale, 256))
    for _ in range(24):
        row(rng.normal(0, 0.05, 256))
    for _ in range(8):
        row(rng.standard_t(2, 256))
    row([0.0])
    row([-0.0, 0.0])
    row([1.0])
    row([-3.5])
    # A tie for the largest magnitude: the first one decides the sign.
    row([1.0, -1.0, 0.5, -0.5, 0.25])
    row([-1.0, 1.0, 0.5, -0.5, 0.25])
    # Halves between codes: with the largest magnitude 8, 16 or 127 a code is one unit.
    for top in [8, -8, 16, -16, 127, -127, 15, 31]:
        ties = np.concatenate([np.arange(-40, 40) / 2, np.arange(-254, 254, 3) / 2]).astype(np.float32)
        ties = ties[np.abs(ties) < abs(top)]
        for _ in range(2):
            x = np.resize(rng.permutation(ties), 256)
            x[::32] = top
            row(x)
    # The same a little off, by some units in the last place.
    for top in [8, 127]:
        x = np.resize(np.arange(-2 * abs(top), 2 * abs(top)) / 2, 256).astype(np.float32)
        row(x * np.float32(0.1))
        row(np.nextafter(x, np.float32(np.inf)))
        row(np.nextafter(x, np.float32(-np.inf)))
    # Everything on one side of zero; one outlier; scales that leave the range of f16.
    row(rng.uniform(1, 2, 256))
    row(-rng.uniform(1, 2, 256))
    row(np.where(np.arange(256) % 32 == 7, 1000.0, rng.normal(0, 0.01, 256)))
    row(rng.normal(0, 1e7, 256))
    row(rng.normal(0, 1e-7, 256))
    # Subnormal values, whose inverse scale overflows; and the ends of f32, whose range overflows.
    row(rng.normal(0, 1, 256) * 1e-40)
    row(rng.choice(np.array([1e-45, -1e-45, 3e-45, 0.0]), 256))
    row(rng.choice(np.array([3.4028235e38, -3.4028235e38, 1.0, 0.0]), 256))
    # Halves and neighbours for F16 and BF16.
    bits = rng.integers(0, 1 << 16, 256).astype(np.uint32)
    bits[(bits & 0x7F80) == 0x7F80] = 0x3F80
    row((bits << 16 | 0x8000).view(np.float32))
    row((bits << 16 | 0x7FFF).view(np.float32))
    row((bits << 16 | 0x8001).view(np.float32))
    half = rng.integers(0, 0x7BFF, 256).astype(np.uint16)
    low, high = half.view(np.float16).astype(np.float32), (half + 1).astype(np.uint16).view(np.float16).astype(np.float32)
    row((low + high) / 2)
    row(-np.nextafter((low + high) / 2, np.float32(np.inf)))
    row([65504, 65519.996, 65520, 65536, -65520, 5.9604645e-8, 2.9802322e-8, 2.9802326e-8, 6.1035156e-5, 6.097555e-5])
    return np.concatenate(rows)


def quantize(name, x):
    out = np.zeros(x.size // gguf.GGML_QUANT_SIZES[Type[name]][0] * gguf.GGML_QUANT_SIZES[Type[name]][1], dtype=np.uint8)
    source, target = ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(out.ctypes.data)
    if name == "F16":
        ggml.ggml_fp32_to_fp16_row(source, target, ctypes.c_int64(x.size))
    elif name == "BF16":
        ggml.ggml_fp32_to_bf16_row(source, target, ctypes.c_int64(x.size))
    else:
        ggml.ggml_quantize_chunk(Type[name].value, source, target, 0, x.size // 256, 256, None)
    return out


def compare(name, what, ours, theirs):
    different = int((ours != theirs).sum())
    print(f"{name:5} {what}: {'equal to' if different == 0 else f'{different} of {ours.size} differ from'} gguf's")


def main():
    rng = np.random.default_rng(20260)
    DATA.mkdir(exist_ok=True)
    for name in F16_SCALES:
        blocks = random_blocks(numbers_for(name, rng), name, block_count(name))
        values = dequantize(name, blocks)
        with np.errstate(all="ignore"):
            theirs = gguf.quants.dequantize(blocks, Type[name]).reshape(-1)
        compare(name, "dequantised", values.view(np.uint32), theirs.astype(np.float32).view(np.uint32))
        data = struct.pack("<I", blocks.shape[0]) + blocks.tobytes() + values.tobytes()
        (DATA / f"dequantize_{name}.bin").write_bytes(data)
    x = quantize_input(rng)
    (DATA / "quantize_input.bin").write_bytes(x.tobytes())
    for name in ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]:
        blocks = quantize(name, x)
        with np.errstate(all="ignore"):
            theirs = gguf.quants.quantize(x, Type[name]).view(np.uint8).reshape(-1)
        compare(name, "quantised", blocks, theirs)
        (DATA / f"quantize_{name}.bin").write_bytes(blocks.tobytes())


if __name__ == "__main__":
    main()
