#!/usr/bin/env python3
"""Makes LoRA adapters with PEFT for tests/data/tiny-llama3-bf16, and the logits that transformers and PEFT compute with them, for
tests/tests/lora.rs to compare with.

    lora_reference.py MODEL OUT

OUT gets `one` and `two`, as save_pretrained writes them (`two` with rsLoRA, some modules, ranks and alphas of their own, in F16), and
logits.json: the logits with `one`, with `two`, and with 0.5 of `one` and 2 of `two`, in float64. Needs torch, transformers, peft.
one.gguf is `one` as llama.cpp's convert_lora_to_gguf.py has it. Needs gguf, too.
"""

import json
import os
import pathlib
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import gguf
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

TOKENS = [1, 17, 230, 5, 99, 64, 301, 12]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def base(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64, attn_implementation="eager")


def draw(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = (torch.randn(parameter.shape, generator=generator, dtype=torch.float32) * 0.15).to(parameter.dtype)


def logits(model):
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0].double()


def halve(directory):
    path = str(directory / "adapter_model.safetensors")
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path)


def floats(directory):
    path = str(directory / "adapter_model.safetensors")
    save_file({name: tensor.float() for name, tensor in load_file(path).items()}, path)


NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def as_gguf(directory, path, alpha, head):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, tensor in sorted(load_file(str(directory / "adapter_model.safetensors")).items()):
        _, _, _, _, layer, block, module, half, _ = name.split(".")
        new = NAMES[f"{block}.{module}"]
        if half == "lora_B" and new in ("attn_q", "attn_k"):
            rows, rank = tensor.shape
            tensor = tensor.reshape(rows // head, 2, head // 2, rank).swapaxes(1, 2).reshape(rows, rank)
        writer.add_tensor(f"blk.{layer}.{new}.weight.{half.lower()}", tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    path, out = sys.argv[1], pathlib.Path(sys.argv[2])
    out.mkdir(exist_ok=True)
    one = LoraConfig(r=4, lora_alpha=6, target_modules=LINEAR, task_type="CAUSAL_LM")
    two = LoraConfig(r=3, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "down_proj"], rank_pattern={"layers.1.self_attn.q_proj": 2},
                     alpha_pattern={"down_proj": 2}, task_type="CAUSAL_LM")
    for name, config, seed, as_type in (("one", one, 1, floats), ("two", two, 2, halve)):
        model = get_peft_model(base(path), config)
        draw(model, seed)
        model.save_pretrained(out / name)
        (out / name / "README.md").unlink(missing_ok=True)
        as_type(out / name)
        config_file = out / name / "adapter_config.json"
        told = json.loads(config_file.read_text()) | {"base_model_name_or_path": pathlib.Path(path).name}
        config_file.write_text(json.dumps(told, indent=1) + "\n")
    as_gguf(out / "one", out / "one.gguf", 6.0, 16)
    with_one = PeftModel.from_pretrained(base(path), out / "one").double()
    with_two = PeftModel.from_pretrained(base(path), out / "two").double()
    both = PeftModel.from_pretrained(base(path), out / "one", adapter_name="one").double()
    both.load_adapter(out / "two", adapter_name="two")
    both.double()
    both.base_model.set_adapter(["one", "two"])
    for module in both.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            for name, factor in (("one", 0.5), ("two", 2.0)):
                if name in module.scaling:
                    module.scaling[name] *= factor
    rows = {"none": logits(base(path)), "one": logits(with_one), "two": logits(with_two), "both": logits(both)}
    for name in ("one", "two", "both"):
        print(name, (rows[name] - rows["none"]).abs().max().item())
    told = {name: [[float(f"{x:.7g}") for x in row] for row in rows[name].tolist()] for name in rows if name != "none"}
    (out / "logits.json").write_text(json.dumps({"tokens": TOKENS, **told}) + "\n")


if __name__ == "__main__":
    main()
