#!/usr/bin/env python3
"""Makes a `torch` installed with `--no-deps` importable on a machine without a GPU.

PyPI's x86-64 `torch` is linked against CUDA libraries that are five times its size and that a CPU never calls, but the dynamic
linker wants them before it starts. This puts one small library beside torch's own that carries their names and defines every
symbol torch asks of them as a function that returns 100 (`cudaErrorNoDevice`), so that torch finds no GPU and computes on the CPU.

Run it with the Python that has torch installed. Needs `cc` and `nm` (whatever links Rust programs brings both).
"""
import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile

CUDA_SONAME = re.compile(r"lib(cu|nv|nccl|cupti)[A-Za-z_]*\.so\.\d+$")
CUDA_SYMBOL = re.compile(r"_*(cu|nv|nccl)")
VERSIONED = re.compile(r"@(lib(cu|nv|nccl)[\w.]*|NVSHMEM)$")


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def importable() -> bool:
    return subprocess.run([sys.executable, "-c", "import torch; torch.ones(2) @ torch.ones(2)"], capture_output=True).returncode == 0


def main() -> int:
    if importable():
        return 0
    spec = importlib.util.find_spec("torch")
    if spec is None:
        print("torch is not installed", file=sys.stderr)
        return 1
    directory = pathlib.Path(spec.submodule_search_locations[0]) / "lib"
    libraries = [str(p) for p in directory.glob("*.so")]

    sonames, symbols = set(), set()
    for library in libraries:
        for name in re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", library)):
            if CUDA_SONAME.match(name):
                sonames.add(name)
        for line in run("nm", "-D", "--undefined-only", library).splitlines():
            symbol = line.split()[-1]
            if VERSIONED.search(symbol) or CUDA_SYMBOL.match(symbol):
                symbols.add(symbol)

    versions: dict[str, list[str]] = {}
    names = set()
    for symbol in symbols:
        name, _, version = symbol.partition("@")
        names.add(name)
        if version:
            versions.setdefault(version.lstrip("@"), []).append(name)
    with tempfile.TemporaryDirectory() as scratch:
        source, script = pathlib.Path(scratch, "stub.c"), pathlib.Path(scratch, "stub.map")
        body = "\n".join(f'int quipu_stub_{i}(void) __asm__("{name}");\nint quipu_stub_{i}(void) {{ return 100; }}'
                         for i, name in enumerate(sorted(names)))
        source.write_text(body + "\n")
        script.write_text("".join(f"{version} {{ {' '.join(n + ';' for n in sorted(members))} }};\n"
                                  for version, members in sorted(versions.items())))
        stub = directory / "libcuda_stub.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", f"-Wl,--version-script={script}", "-Wl,-soname,libcuda_stub.so",
                        "-o", str(stub), str(source)], check=True)
    for soname in sonames:
        link = directory / soname
        link.unlink(missing_ok=True)
        link.symlink_to(stub.name)
    if importable():
        return 0
    subprocess.run([sys.executable, "-c", "import torch"], check=False)
    return 1


if __name__ == "__main__":
    sys.exit(main())
