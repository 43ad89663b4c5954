#!/usr/bin/env bash
# server_suites.sh QUIPU REFS: llama.cpp's own tests of its server and openai-python's typed ones against `quipu serve`.
# Both come with packages of PyPI. What fails must stand in server_expected.txt with its reason, and only that.
set -euo pipefail
quipu=$(realpath "$1") refs=$2 here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$refs/server" && cd "$refs/server"

python=$PWD/venv/bin/python
fetch() {
  [ ! -f ready ] || return 0
  python3 -m venv venv &&
    "$python" -m pip install -q "pytest~=8.3" pytest-timeout filelock "openai~=2.14" prometheus-client requests wget numpy \
      aiohttp anthropic scikit-build-core cmake ninja &&
    "$python" -m pip download -q --no-deps --no-binary llama-cpp-python --no-build-isolation llama-cpp-python==0.3.36 &&
    tar xzf llama_cpp_python-0.3.36.tar.gz --wildcards '*/vendor/llama.cpp/tools/server/tests/*' \
      '*/vendor/llama.cpp/models/templates/*' &&
    touch ready
}
if ! fetch > fetch.log 2>&1; then
  tail -3 fetch.log
  echo "SKIPPED: server suites: their packages could not be fetched"
  exit 0
fi

suite=$PWD/llama_cpp_python-0.3.36/vendor/llama.cpp/tools/server/tests
echo 'import utils; utils.ServerPreset.load_all = staticmethod(lambda: None)' > shim.py
export QUIPU=$quipu STORIES=$here/../data/stories260K/stories260K-f32.gguf LLAMA_SERVER_BIN_PATH=$here/llama_server.py PORT=${PORT:-18181}
export PYTHONPATH=$PWD:$suite
units=$(cd "$suite" && ls unit/test_{basic,chat_completion,completion,compat_anthropic,compat_oai_responses,template,tokenize,security,metrics,infill}.py)
# shellcheck disable=SC2086
(cd "$suite" && "$python" -m pytest -p shim -p no:cacheprovider -q -m "not slow" --timeout 60 -rA $units) > llama.log 2>&1 || true
grep -E '^(PASSED|FAILED|ERROR) ' llama.log | sed 's/ - .*//' | sort > outcome.txt || true
tail -1 llama.log
if ! grep -q '^PASSED' outcome.txt; then
  tail -30 llama.log
  echo "FAILED: no test of the suite has passed"
  exit 1
fi
grep -vE '^(#|$)' "$here/server_expected.txt" | sed 's/ *#.*//' | sort > expected.txt
grep -vE '^PASSED ' outcome.txt | sed 's/^[A-Z]* //' | sort > failed.txt
unexpected=$(comm -13 expected.txt failed.txt)
if [ -n "$unexpected" ]; then
  echo "$unexpected"
  echo "FAILED: these do not stand in server_expected.txt"
  exit 1
fi
comm -23 expected.txt failed.txt | sed 's/^/passes now, although it stands in server_expected.txt: /'
echo "ok: llama.cpp's server suite: $(grep -c '^PASSED' outcome.txt) pass, $(wc -l < failed.txt) are expected not to"
