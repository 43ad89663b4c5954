#!/usr/bin/env python3
"""Makes data/stored_TYPE.bin with ggml itself (see make_fixtures.py) and checks them against the `gguf` package.

    pip install gguf numpy xllamacpp
    python3 make_stored_fixtures.py

data/stored_TYPE.bin: u32 number of blocks, the blocks, then the f32 values, little-endian. The blocks are random bytes, with these exceptions:
the f16 scales are any f16 but NaN; all points of a grid and all 8-bit scales occur.
"""

import ctypes
import struct

import gguf
import numpy as np

from make_fixtures import DATA, ggml

# Weights and bytes of a block, byte offset of the f16 scale if there is one in a piece, random blocks.
TYPES = {
    "IQ1_S": (256, 50, 0, 8),
    "IQ1_M": (256, 56, None, 8),
    "IQ2_XXS": (256, 66, 0, 8),
    "IQ2_XS": (256, 74, 0, 8),
    "IQ2_S": (256, 82, 0, 8),
    "IQ3_XXS": (256, 98, 0, 8),
    "IQ3_S": (256, 110, 0, 8),
    "TQ1_0": (256, 54, 52, 16),
    "NVFP4": (64, 36, None, 8),
    "Q1_0": (128, 18, 0, 16),
    "Q2_0": (64, 18, 0, 16),
}

# Zeros of both signs, the smallest and largest subnormal, the smallest and largest normal, infinity.
SPECIAL = np.array([0, 0x8000, 1, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00], dtype=np.uint16)


def random_blocks(rng, name):
    _, size, offset, count = TYPES[name]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    bits = rng.integers(0, 1 << 16, count).astype(np.uint16)
    bits[:8] = SPECIAL
    bits[np.isnan(bits.view(np.float16))] = 0x3C01
    if offset is not None:
        blocks[:, offset : offset + 2] = bits.view(np.uint8).reshape(count, 2)
    if name == "IQ1_M":
        for n in range(4):
            blocks[:, 49 + 2 * n] = blocks[:, 49 + 2 * n] & 0x0F | ((bits >> 4 * n & 15) << 4).astype(np.uint8)
    return blocks


def every_point(rng, name):
    """Blocks in which each point of the grid occurs once."""
    points, per_block = {
        "IQ1_S": (2048, 32),
        "IQ1_M": (2048, 32),
        "IQ2_XXS": (256, 32),
        "IQ2_XS": (512, 32),
        "IQ2_S": (1024, 32),
        "IQ3_XXS": (256, 64),
        "IQ3_S": (512, 64),
    }[name]
    count = points // per_block
    p = rng.permutation(points).reshape(count, per_block)
    low, high = (p & 255).astype(np.uint8), (p >> 8).astype(np.uint8)
    blocks = np.resize(random_blocks(rng, name)[8 - min(count, 8) :], (count, TYPES[name][1])).copy()
    one = np.array([0x3C00], dtype=np.uint16).view(np.uint8)
    if name != "IQ1_M":
        blocks[:, :2] = one
    else:
        for n in range(4):
            blocks[:, 49 + 2 * n] = blocks[:, 49 + 2 * n] & 0x0F | (0x3C00 >> 4 * n & 15) << 4
    place = np.arange(per_block)

    def set_high(first, bits, per_byte, at):
        for k in place:
            column = first + k // per_byte
            mask = np.uint8(((1 << bits) - 1) << at(k))
            blocks[:, column] = blocks[:, column] & ~mask | high[:, k] << np.uint8(at(k))

    if name == "IQ1_S":
        blocks[:, 2:34] = low
        words = blocks[:, 34:50].copy().view(np.uint16)
        for k in place:
            words[:, k // 4] = words[:, k // 4] & ~np.uint16(7 << 3 * (k % 4)) | (p[:, k] >> 8 << 3 * (k % 4)).astype(np.uint16)
        blocks[:, 34:50] = words.view(np.uint8)
    elif name == "IQ1_M":
        blocks[:, :32] = low
        set_high(32, 3, 2, lambda k: 4 * (k % 2))
    elif name == "IQ2_XXS":
        for k in place:
            blocks[:, 2 + k // 4 * 8 + k % 4] = low[:, k]
    elif name == "IQ2_XS":
        blocks[:, 2:66:2] = low
        blocks[:, 3:66:2] = blocks[:, 3:66:2] & 0xFE | high
    elif name == "IQ2_S":
        blocks[:, 2:34] = low
        set_high(66, 2, 4, lambda k: 2 * (k % 4))
    elif name == "IQ3_XXS":
        blocks[:, 2:66] = low
    elif name == "IQ3_S":
        blocks[:, 2:66] = low
        set_high(66, 1, 8, lambda k: k % 8)
    return blocks


def every_scale(rng, name):
    """Blocks of NVFP4 in which each 8-bit scale occurs once."""
    scales = 4
    blocks = rng.integers(0, 256, (256 // scales, TYPES[name][1]), dtype=np.uint8)
    blocks[:, :scales] = np.arange(256, dtype=np.uint8).reshape(-1, scales)
    return blocks


def dequantize(name, blocks):
    values = np.empty(blocks.shape[0] * TYPES[name][0], dtype=np.float32)
    function = getattr(ggml, f"dequantize_row_{name.lower()}")
    function(ctypes.c_void_p(blocks.ctypes.data), ctypes.c_void_p(values.ctypes.data), ctypes.c_int64(values.size))
    return values


def check(name, blocks, values):
    kind = getattr(gguf.GGMLQuantizationType, name, None)
    try:
        with np.errstate(all="ignore"):
            theirs = gguf.quants.dequantize(blocks, kind).reshape(-1).astype(np.float32)
    except (NotImplementedError, AttributeError, KeyError, TypeError) as e:
        return print(f"{name:8} is not in this gguf package ({e!r})")
    both_nan = np.isnan(values) & np.isnan(theirs)
    different = int(((values.view(np.uint32) != theirs.view(np.uint32)) & ~both_nan).sum())
    print(f"{name:8} {values.size} values: {'equal to' if different == 0 else f'{different} differ from'} gguf's")


def main():
    for name in TYPES:
        rng = np.random.default_rng([20261, TYPES[name][1], len(name)])
        blocks = [random_blocks(rng, name)]
        if name.startswith("IQ"):
            blocks.append(every_point(rng, name))
        if name == "NVFP4":
            blocks.append(every_scale(rng, name))
        blocks = np.ascontiguousarray(np.concatenate(blocks))
        values = dequantize(name, blocks)
        check(name, blocks, values)
        (DATA / f"stored_{name}.bin").write_bytes(struct.pack("<I", blocks.shape[0]) + blocks.tobytes() + values.tobytes())


if __name__ == "__main__":
    main()
