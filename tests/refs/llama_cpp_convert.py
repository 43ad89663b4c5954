#!/usr/bin/env python3
"""What llama.cpp's own converter makes of Hugging Face directories, for formats/tests/hf to compare with.

    llama_cpp_convert.py OUT_DIR TYPE DIR [DIR...]

Writes OUT_DIR/NAME.gguf for each directory. The converter (convert_hf_to_gguf.py) comes out of the source distribution of
llama-cpp-python, which carries llama.cpp whole; it is fetched through pip. It knows a byte-level vocabulary only if a hash of it is in its
list, and the small ones made here are not, so it is told that they are Llama 3's.

Needs transformers and torch. tests/data/llama_cpp_convert is this script's output for the two small checkpoints in tests/data.
"""

import pathlib
import runpy
import subprocess
import sys
import tarfile
import tempfile

SOURCE = "llama-cpp-python==0.3.36"


def main() -> int:
    out, kind, dirs = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2], [pathlib.Path(d).resolve() for d in sys.argv[3:]]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        name = SOURCE.split("==")[0]
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name, SOURCE, "-d", scratch], check=True)
        (archive,) = pathlib.Path(scratch).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        (converter,) = pathlib.Path(scratch).glob("*/vendor/llama.cpp/convert_hf_to_gguf.py")
        sys.path[:0] = [str(converter.parent), str(converter.parent / "gguf-py")]
        from conversion.base import TextModel

        TextModel.get_vocab_base_pre = lambda self, tokenizer: "llama-bpe"
        for source in dirs:
            sys.argv = [converter.name, str(source), "--outtype", kind, "--outfile", str(out / f"{source.name}.gguf")]
            runpy.run_path(str(converter), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
