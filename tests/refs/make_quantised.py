#!/usr/bin/env python3
"""Quantised matrices in every layout that Quipu reads, and what other libraries make of them, for formats/tests/hf to compare with.

    make_quantised.py OUT.json

Each case has a `quantization_config`, the tensors of one matrix of 8 × 40 (dtype, shape, bytes), and the matrix as float32: for fp8 by
transformers' own dequantisation where it can (whole blocks), for compressed-tensors by that library's, with scales made float32 first.

Needs torch, transformers and (pip install --no-deps) compressed-tensors. tests/data/quantised.json is this script's output.
"""

import json
import sys

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

torch.manual_seed(11)
ROWS, COLS = 8, 40
NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float8_e4m3fn: "F8_E4M3",
         torch.float8_e5m2: "F8_E5M2", torch.float8_e8m0fnu: "F8_E8M0", torch.int8: "I8", torch.uint8: "U8", torch.int32: "I32",
         torch.int64: "I64"}
cases = []


def case(name, config, tensors, expected):
    assert expected.dtype == torch.float32 and expected.shape == (ROWS, COLS), (name, expected.dtype, expected.shape)
    data = lambda t: bytes(t.reshape(1, -1).clone(memory_format=torch.contiguous_format)[0].untyped_storage()).hex()
    listed = {key: {"dtype": NAMES[t.dtype], "shape": list(t.shape), "bytes": data(t)} for key, t in tensors.items()}
    cases.append({"name": name, "quantization_config": config, "tensors": listed, "expected": data(expected)})


def fp8(name, scales, block=None, dtype=torch.float8_e4m3fn, config=None, key="weight_scale_inv", **others):
    codes = (torch.randn(ROWS, COLS) * 100).to(dtype)
    codes.view(torch.uint8)[0, :4] = torch.tensor([0x00, 0x80, 0x01, 0x7b], dtype=torch.uint8)  # zeros, a subnormal, a large one
    config = config or {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": block}
    wide = scales.float() if scales.dtype != torch.uint8 else scales.view(torch.float8_e8m0fnu).float()
    if block is None and scales.numel() == 1:
        expected = codes.float() * wide
    elif block is None:
        expected = codes.float() * wide.reshape(ROWS, 1)
    else:
        expected = codes.float() * wide.repeat_interleave(block[0], 0)[:ROWS].repeat_interleave(block[1], 1)[:, :COLS]
        if ROWS % block[0] == 0 and COLS % block[1] == 0:
            assert torch.equal(expected, Fp8Dequantize(None)._dequantize_one(codes, scales, torch.float32)), name
    case(name, config, {"weight": codes, key: scales, **others}, expected)


positive = lambda *shape: torch.rand(*shape) * 0.01 + 1e-4
fp8("fp8, whole blocks", positive(2, 5), [4, 8])
fp8("fp8, blocks that reach over the edges", positive(3, 3), [3, 16])
fp8("fp8, one block of 128 × 128", positive(1, 1), [128, 128])
fp8("fp8, BF16 scales", positive(2, 5).bfloat16(), [4, 8])
fp8("fp8, exponents as scales", torch.exp2(torch.randint(-9, 3, (2, 5)).float()).to(torch.float8_e8m0fnu), [4, 8])
fp8("fp8, exponents as bytes", torch.randint(110, 130, (2, 5)).to(torch.uint8), [4, 8])
fp8("fp8, E5M2", positive(2, 5), [4, 8], torch.float8_e5m2)
fp8("fp8, one scale", positive(()), None, activation_scale=torch.tensor(0.5))
fp8("fbgemm_fp8", positive(ROWS, 1), config={"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, key="weight_scale",
    input_scale_ub=torch.tensor([1200.0]))
ct = lambda fmt, **weights: {"quant_method": "compressed-tensors", "format": fmt, "quantization_status": "compressed",
                             "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}, "ignore": ["lm_head"]}
fp8("float-quantized, one scale for each row", positive(ROWS, 1).bfloat16(),
    config=ct("float-quantized", num_bits=8, type="float", strategy="channel"), key="weight_scale")
fp8("float-quantized, one scale", positive(1), config=ct("float-quantized", num_bits=8, type="float", strategy="tensor"),
    key="weight_scale", input_scale=torch.tensor([0.25]))
fp8("float-quantized, blocks", positive(3, 3), [3, 16], key="weight_scale",
    config=ct("float-quantized", num_bits=8, type="float", strategy="block", block_structure=[3, 16]))


def integers(name, bits, group, symmetric, packed, scale_dtype=torch.float32, zero_dtype=torch.int8):
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    codes = torch.randint(low, high + 1, (ROWS, COLS)).to(torch.int8)
    groups = COLS // group if group else 1
    scales = positive(ROWS, groups).to(scale_dtype)
    zeros = None if symmetric else torch.randint(low, high + 1, (ROWS, groups)).to(torch.int8)
    strategy = "group" if group else "channel"
    args = QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, strategy=strategy, group_size=group)
    config = ct("pack-quantized" if packed else "int-quantized", num_bits=bits, type="int", symmetric=symmetric, strategy=strategy,
                group_size=group)
    tensors = {"weight_scale": scales}
    if packed:
        tensors |= {"weight_packed": pack_to_int32(codes, bits), "weight_shape": torch.tensor([ROWS, COLS])}
        assert torch.equal(unpack_from_int32(tensors["weight_packed"], bits, codes.shape), codes)
        if zeros is not None:
            tensors["weight_zero_point"] = pack_to_int32(zeros, bits, packed_dim=0)
    else:
        tensors["weight"] = codes
        if zeros is not None:
            tensors["weight_zero_point"] = zeros
    expected = dequantize(x_q=codes, scale=scales.float(), zero_point=zeros, args=args)
    case(name, config, tensors, expected)


integers("int-quantized, rows", 8, None, True, False)
integers("int-quantized, rows, BF16 scales", 8, None, True, False, torch.bfloat16)
integers("int-quantized, groups with zero points", 8, 8, False, False)
integers("pack-quantized, 4 bits, groups", 4, 8, True, True, torch.bfloat16)
integers("pack-quantized, 4 bits, groups with zero points", 4, 20, False, True, torch.float16)
integers("pack-quantized, 4 bits, rows with zero points", 4, None, False, True)
integers("pack-quantized, 8 bits, rows", 8, None, True, True)
integers("pack-quantized, 3 bits, groups", 3, 8, True, True)
integers("pack-quantized, 5 bits, groups with zero points over the edges of words", 5, 8, False, True)

# Columns whose groups are in the order of activations: the definition, since the library has dropped its own.
order = torch.randperm(COLS).to(torch.int32) // 8
codes, scales = torch.randint(-8, 8, (ROWS, COLS)).to(torch.int8), positive(ROWS, 5)
case("pack-quantized, 4 bits, groups in another order",
     ct("pack-quantized", num_bits=4, type="int", symmetric=True, strategy="group", group_size=8, actorder="group"),
     {"weight_packed": pack_to_int32(codes, 4), "weight_shape": torch.tensor([ROWS, COLS]), "weight_scale": scales, "weight_g_idx": order},
     codes.float() * scales[:, order.long()])

with open(sys.argv[1], "w") as out:
    out.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
