#!/usr/bin/env bash
# wheel.sh DIRECTORY [QUIPU [PACKAGE]]: the package as users get it: a wheel, installed into a fresh environment in
# DIRECTORY, where its tests run, and LangChain, llm-gguf and Ray against it; QUIPU is the program, which writes the same
# tale. With PACKAGE, a directory in which the package lies, no wheel is built, which takes minutes. What cannot be had is
# named in a line that starts with SKIPPED.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
quipu=${2:+$(realpath "$2")} package=${3:+$(realpath "$3")}
mkdir -p "$1" && cd "$1" || exit 1
directory=$PWD failed=0

# ok NAME COMMAND…: a line for the counts.
ok() {
  if "${@:2}"; then echo "ok: $1"; else
    echo "FAILED: $1"
    failed=1
  fi
}
tests() {
  OMP_NUM_THREADS=1 venv/bin/python -B -m unittest discover -v -s "$here/$1" -p "${2:-test_*.py}" 2>&1
}

rm -rf wheels venv
if ! command -v python3 > /dev/null || ! python3 -m venv venv 2> tools.log; then
  echo "SKIPPED: the package for Python: there is no python3 that makes environments"
  exit 0
fi
if [ -n "$package" ]; then
  echo "$package" > "$(venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/quipu.pth"
elif [ -x tools/bin/maturin ] || { python3 -m venv tools && tools/bin/pip install --quiet 'maturin>=1.9,<2'; } > tools.log 2>&1; then
  (cd "$here/.." && "$directory/tools/bin/maturin" build --release --out "$directory/wheels") || exit 1
  venv/bin/pip install --quiet --no-deps wheels/*.whl || exit 1
  bytes=$(stat -c %s wheels/*.whl)
  ok "the wheel has $bytes bytes, fewer than 20 MB" [ "$bytes" -lt 20000000 ]
  ok "a fresh environment has nothing else in it" [ -z "$(venv/bin/pip list --format freeze | grep -v '^pip=\|^setuptools=\|^quipu=')" ]
else
  echo "SKIPPED: the wheel for Python: maturin could not be installed"
  exit 0
fi

ok "ten lines tell a tale" [ -n "$(venv/bin/python -c 'import quipu; print(quipu.Model("demo").generate("Once upon a time", max_tokens=20))')" ]
if [ -n "$quipu" ]; then
  tale=$("$quipu" run demo "Once upon a time" -n 48 --seed 1 --no-echo)
  ok "the tale is the program's" [ "$tale" = "$(venv/bin/python -c 'import quipu; print(quipu.Model("demo").generate("Once upon a time", max_tokens=48, seed=1))')" ]
fi
if venv/bin/pip install --quiet --requirement "$here/peers/requirements.txt" > peers.log 2>&1 &&
  venv/bin/pip install --quiet --no-deps llm-gguf==0.2 >> peers.log 2>&1; then
  ok "the tests in Python, with numpy" tests python
  ok "LangChain's classes for llama-cpp-python" tests peers test_langchain.py
  ok "llm-gguf" tests peers test_llm_gguf.py
else
  ok "the tests in Python, without numpy" tests python
  echo "SKIPPED: LangChain and llm-gguf over quipu.compat: they could not be installed"
fi
if [ "${QUIPU_RAY:-0}" = 1 ] && venv/bin/pip install --quiet 'ray[data]' > ray.log 2>&1; then
  ok "Ray Data" tests peers test_ray.py
else
  echo "SKIPPED: Ray Data: it is installed and tried if QUIPU_RAY=1"
fi
exit $failed
