#!/usr/bin/env bash
# run.sh QUIPU DIRECTORY: the official clients against `quipu serve demo`. They are installed into DIRECTORY, once; those
# that cannot be had are named in a line that starts with SKIPPED.
set -uo pipefail
quipu=$(realpath "$1") here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$2" && cd "$2" || exit 1

python=$PWD/venv/bin/python
install_python() {
  cmp -s "$here/requirements.txt" venv/installed ||
    { python3 -m venv venv && "$python" -m pip install --quiet --requirement "$here/requirements.txt" &&
      cp "$here/requirements.txt" venv/installed; }
}
install_node() {
  cmp -s "$here/package.json" installed.json ||
    { cp "$here/package.json" . && npm install --silent --no-audit --no-fund --ignore-scripts && cp package.json installed.json; }
}

if ! command -v python3 > /dev/null || ! install_python > python.log 2>&1; then
  echo "SKIPPED: clients in Python: they could not be installed (pip)"
  exit 0
fi
node=()
if command -v npm > /dev/null && install_node > node.log 2>&1; then
  cp "$here/openai.mjs" .
  node=(--node "$PWD/openai.mjs")
else
  echo "SKIPPED: openai for Node: it could not be installed (npm)"
fi
exec "$python" -B "$here/check.py" "$quipu" "${node[@]}"
