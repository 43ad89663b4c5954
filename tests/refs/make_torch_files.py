#!/usr/bin/env python3
"""Small PyTorch checkpoints, and what torch reads from them, for formats/tests/torch to compare with.

    make_torch_files.py OUT_DIR

Writes *.pt: files with tensors of every kind, each with a .json of name, dtype, shape and bytes; and files that must be refused (an old
format, a program, a whole module, a pickle that would run a command, numbers of a big-endian machine). tests/data/torch is this script's
output.
"""

import argparse
import io
import json
import pathlib
import pickle
import sys
import zipfile
from collections import OrderedDict

import torch

out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
# The device and serial number of a file, which differ from run to run, are of no consequence.
torch.manual_seed(7)


def numbers_of(tensor):
    """All bytes of a tensor, row after row."""
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes().hex()


def save(name, value, **options):
    torch.save(value, out / f"{name}.pt", **options)
    # torch's own restricted reader does not know protocols 4 and 5.
    tensors = torch.load(out / f"{name}.pt", weights_only=not options)
    listed = [{"name": key, "dtype": str(t.dtype), "shape": list(t.shape), "bytes": numbers_of(t)} for key, t in tensors.items()]
    (out / f"{name}.json").write_text(json.dumps(listed) + "\n")


base = torch.randn(6, 8)
numbers = {
    "float32": base, "float16": base.half(), "bfloat16": base.bfloat16(), "float64": base.double(),
    "float8_e4m3fn": base.to(torch.float8_e4m3fn), "float8_e5m2": base.to(torch.float8_e5m2),
    "int8": torch.arange(-3, 3, dtype=torch.int8), "uint8": torch.arange(5, dtype=torch.uint8),
    "int16": torch.tensor([-300, 300], dtype=torch.int16), "int32": torch.tensor([[1 << 30], [-(1 << 30)]], dtype=torch.int32),
    "int64": torch.tensor([1 << 40, -5]), "bool": torch.tensor([True, False]),
    "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4),
}
save("dtypes", numbers)
big = torch.randn(12, 10)
save("views", OrderedDict([
    ("whole", big), ("tied", big), ("rows", big[3:7]), ("columns", big[:, 2:9]), ("transposed", big.T), ("steps", big[1::3, ::4]),
    ("cube", big.reshape(3, 4, 10).permute(2, 0, 1)), ("vector", big[:, 3]), ("one", big[5:6, 1::2]),
    ("parameter", torch.nn.Parameter(big[2])),
]))
module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
save("state_dict", module.state_dict())  # an OrderedDict with attributes
save("protocol4", {"a": base}, pickle_protocol=4)
save("protocol5", {"a": base}, pickle_protocol=5)

torch.save(module, out / "refused_module.pt")
torch.save({"a": base}, out / "refused_legacy.pt", _use_new_zipfile_serialization=False)
torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), out / "refused_script.pt")
torch.save({"model": {"a": base}}, out / "refused_nested.pt")
torch.save([base], out / "refused_list.pt")
torch.save({"a": base, "args": argparse.Namespace(lr=1)}, out / "refused_namespace.pt")
torch.save({"a": base.to_sparse()}, out / "refused_sparse.pt")


def rewritten(name, change):
    """A checkpoint of one tensor whose entries `change` has changed."""
    memory = io.BytesIO()
    torch.save({"a": torch.ones(2)}, memory)
    with zipfile.ZipFile(memory) as old, zipfile.ZipFile(out / f"{name}.pt", "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename.split("/", 1)[1], old.read(entry)))


class Command:
    def __reduce__(self):
        import os
        return os.system, ("touch /tmp/quipu-was-run",)


rewritten("refused_command", lambda name, data: pickle.dumps({"a": Command()}, 2) if name == "data.pkl" else data)
rewritten("refused_eval", lambda name, data: b"cbuiltins\neval\n(X\x03\x00\x00\x001+1tR." if name == "data.pkl" else data)
rewritten("refused_byteorder", lambda name, data: b"big" if name == "byteorder" else data)
with zipfile.ZipFile(out / "refused_compressed.pt", "w", zipfile.ZIP_DEFLATED) as new:
    new.writestr("x/data.pkl", b"}." + bytes(100))
