#!/usr/bin/env bash
# Makes tests/data/interleaved: one small model in Q4_0 and in the three types that interleave its rows, all by the same llama-quantize.
# llama.cpp wrote these types from July to December 2024; llama-cpp-python 0.3.1 comes with its source of October. Needs pip, cmake, a C++
# compiler, and some minutes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
python3 -m pip download --quiet --no-binary :all: --no-deps llama_cpp_python==0.3.1
tar xf llama_cpp_python-0.3.1.tar.gz
cmake -S llama_cpp_python-0.3.1/vendor/llama.cpp -B build -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF > cmake.log
cmake --build build --target llama-quantize -j2 > make.log
mkdir -p "$here/../data/interleaved"
for type in Q4_0 Q4_0_4_4 Q4_0_4_8 Q4_0_8_8; do
  build/bin/llama-quantize "$here/../data/llama_cpp_convert/tiny-llama3-bf16.gguf" "$here/../data/interleaved/tiny-llama3-${type,,}.gguf" $type
done
