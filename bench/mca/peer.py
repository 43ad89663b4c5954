"""llama.cpp's kernels, compiled for the same cores from the source package of llama_cpp_python. Nothing of it is kept here."""

import os
import subprocess
import sys

from executed import Program, run, tool

HERE = os.path.dirname(os.path.abspath(__file__))
VERSION = "0.3.36"
# What llama.cpp would be built for. SVE, which some cores of the third kind have, is left out: phones' systems mostly do, too.
TUNE = {"neon": ["-mcpu=cortex-a72"], "dotprod": ["-mcpu=cortex-a76"], "i8mm": ["-march=armv8.2-a+fp16+dotprod+i8mm"]}
# The shape that `ggml_repack_get_optimal_repack_type` takes; without the dot product instructions it takes none.
SHAPES = {
    "neon": {ty: "rows" for ty in ["q4_0", "q8_0", "q4_K", "q5_K", "q6_K"]},
    "dotprod": {"q4_0": "4x4", "q8_0": "4x4", "q4_K": "8x4", "q5_K": "8x4", "q6_K": "8x4"},
    "i8mm": {"q4_0": "4x8", "q8_0": "4x8", "q4_K": "8x8", "q5_K": "8x8", "q6_K": "8x8"},
}


def sources(directory, out):
    """The directory of ggml's sources in an unpacked package, which is downloaded when none is given."""
    if not directory:
        directory = os.path.join(out, f"llama_cpp_python-{VERSION}")
        if not os.path.isdir(directory):
            package = [f"llama_cpp_python=={VERSION}", "--dest", out]
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama_cpp_python"]
            subprocess.run(pip + package, check=True)
            run([tool("tar"), "-xzf", directory + ".tar.gz", "-C", out])
    ggml = os.path.join(directory, "vendor", "llama.cpp", "ggml")
    return ggml if os.path.isdir(ggml) else sys.exit(f"{ggml} is missing")


def build(directory, out):
    """Instruction set → the program of `llama_cpp.cpp`."""
    os.makedirs(out, exist_ok=True)
    ggml = sources(directory, out)
    cpu = os.path.join(ggml, "src", "ggml-cpu")
    programs = {}
    for isa, tune in TUNE.items():
        path = os.path.join(out, isa)
        # As CMake's release builds do.
        flags = ["-O3", "-DNDEBUG", *tune, *(f"-I{d}" for d in [os.path.join(ggml, "include"), os.path.join(ggml, "src"), cpu])]
        cc, cxx = tool("aarch64-linux-gnu-gcc"), tool("aarch64-linux-gnu-g++")
        run([cc, "-std=gnu11", *flags, "-c", os.path.join(cpu, "arch", "arm", "quants.c"), "-o", path + ".quants.o"])
        run([cxx, "-std=gnu++17", *flags, "-c", os.path.join(cpu, "arch", "arm", "repack.cpp"), "-o", path + ".repack.o"])
        # The rest of ggml, which the kernels fall back to and which is not called here, stays away.
        link = ["-static", "-Wl,--unresolved-symbols=ignore-all", "-o", path]
        run([cxx, "-O2", os.path.join(HERE, "llama_cpp.cpp"), path + ".quants.o", path + ".repack.o", *link])
        programs[isa] = Program(path)
    return programs


def executed(programs, isa, ty, outputs, cols, rows):
    arguments = [SHAPES[isa][ty], ty, str(outputs), str(cols), str(rows)]
    return programs[isa].executed(arguments, r"^product$|^ggml_(vec_dot|gem[mv])_", r"^product$")
