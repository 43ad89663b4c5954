#!/usr/bin/env bash
# server_suites.sh QUIPU REFS: other people's tests of a server against `quipu serve`: llama.cpp's of its own, and
# openai-python's of every field's type. Both come with packages of PyPI. What does not pass must stand in
# server_expected.txt with its reason, and what stands there must not pass.
set -euo pipefail
quipu=$(realpath "$1") refs=$2 here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$refs/server" && cd "$refs/server"

python=$PWD/venv/bin/python
packages=("pytest~=8.3" pytest-timeout pytest-asyncio pytest-xdist filelock "openai==3.3.0" prometheus-client requests wget
  numpy aiohttp anthropic respx dirty-equals inline-snapshot nest-asyncio rich scikit-build-core cmake ninja hatchling
  hatch-fancy-pypi-readme)
fetch() {
  [ "$(cat ready 2> /dev/null)" != "${packages[*]}" ] || return 0
  python3 -m venv venv &&
    "$python" -m pip install -q "${packages[@]}" &&
    "$python" -m pip download -q --no-deps --no-binary :all: --no-build-isolation llama-cpp-python==0.3.36 openai==3.3.0 &&
    tar xzf llama_cpp_python-0.3.36.tar.gz --wildcards '*/vendor/llama.cpp/tools/server/tests/*' \
      '*/vendor/llama.cpp/models/templates/*' &&
    tar xzf openai-3.3.0.tar.gz && echo "${packages[*]}" > ready
}
if ! fetch > fetch.log 2>&1; then
  tail -3 fetch.log
  echo "SKIPPED: server suites: their packages could not be fetched"
  exit 0
fi

# The demo model, with three of its tokens called those that stand around a gap.
infill=$PWD/infill.gguf
rm -rf tales && cp -r "$here/../../models/tales" tales
sed -i 's/<|start_header_id|>/<|fim_prefix|>/g; s/<|end_header_id|>/<|fim_suffix|>/g; s/<|python_tag|>/<|fim_middle|>/g' \
  tales/tokenizer.json tales/tokenizer_config.json
"$quipu" convert tales -o "$infill" --type q8_0 --rounding plain > convert.log 2>&1 || { cat convert.log; exit 1; }

# pytest's outcomes as lines `PASSED name`, `FAILED name`, `ERROR name`, of the log $1.
outcomes() {
  grep -E '^(PASSED|FAILED|ERROR) ' "$1" | sed 's/ - .*//' | sort
}

# llama.cpp's: each case starts a server of its own, and several may at a time. They need no model that has to be fetched.
suite=$PWD/llama_cpp_python-0.3.36/vendor/llama.cpp/tools/server/tests
echo 'import utils; utils.ServerPreset.load_all = staticmethod(lambda: None)' > shim.py
units=$(cd "$suite" && ls unit/test_{basic,chat_completion,completion,compat_anthropic,compat_oai_responses,ctx_shift,ignore_eos,template,tokenize,tool_call,security,metrics,infill}.py)
# shellcheck disable=SC2086
(cd "$suite" && QUIPU=$quipu STORIES=$here/../data/stories260K/stories260K-f32.gguf INFILL=$infill \
  LLAMA_SERVER_BIN_PATH=$here/llama_server.py PYTHONPATH=$OLDPWD:$suite PYTHONDONTWRITEBYTECODE=1 \
  "$python" -m pytest -p shim -p no:cacheprovider -q -n 2 -m "not slow" --timeout 120 -rA $units) > llama.log 2>&1 || true
tail -1 llama.log

# openai-python's: strict types, with every parameter that there is.
"$quipu" serve "$infill" --port 18190 --alias infill -c 4096 -n 24 -t 1 --no-tuning 2> openai-server.log &
server=$!
trap 'kill $server 2> /dev/null || true' EXIT
for _ in $(seq 200); do
  "$python" -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:18190/health")' 2> /dev/null && break
  sleep 0.1
done
(cd openai-3.3.0 && TEST_API_BASE_URL=http://127.0.0.1:18190/v1 "$python" -m pytest -o addopts="" -o asyncio_mode=auto \
  -p no:cacheprovider -q --timeout 120 -rA -k "(create or list) and not async and strict" \
  tests/api_resources/{chat/test_completions,test_completions,test_models,test_embeddings,test_responses}.py) > openai.log 2>&1 || true
tail -1 openai.log
kill $server

failed=0
for name in llama openai; do
  outcomes $name.log > $name.txt || true
  if ! grep -q '^PASSED' $name.txt; then
    tail -30 $name.log
    echo "FAILED: no test of $name has passed"
    exit 1
  fi
  echo "ok: server suite $name: $(grep -c '^PASSED' $name.txt) pass"
done
cat llama.txt openai.txt | grep -vE '^PASSED ' | sed 's/^[A-Z]* //' | sort > failed.txt
grep -vE '^(#|$)' "$here/server_expected.txt" | sort > expected.txt
while read -r case; do
  echo "FAILED: $case does not pass and does not stand in server_expected.txt"
  failed=1
done < <(comm -13 expected.txt failed.txt)
while read -r case; do
  echo "FAILED: $case stands in server_expected.txt and passes, or is gone"
  failed=1
done < <(comm -23 expected.txt failed.txt)
[ $failed = 1 ] || echo "ok: what does not pass is what stands in server_expected.txt, $(wc -l < failed.txt) cases"
exit $failed
