#!/usr/bin/env python3
"""llama-server's command line in front of `quipu serve`, for llama.cpp's own tests of its server.

QUIPU names the binary, STORIES the file that stands for stories260K, INFILL one with tokens for infilling. Flags that change nothing here are dropped; what
nothing stands behind ends with 1, as a server that cannot do it would.
"""

import argparse
import os
import sys
import tempfile

CHATML = """{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

LLAMA3 = """{{ bos_token }}{% for m in messages %}\
{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + (m.content | trim) + '<|eot_id|>' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

COMMAND_R = """{% for m in messages %}\
{{ '<|START_OF_TURN_TOKEN|><|' + ('CHATBOT' if m.role == 'assistant' else m.role | upper) + '_TOKEN|>' }}\
{{ (m.content | trim) + '<|END_OF_TURN_TOKEN|>' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"""

TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "command-r": COMMAND_R}

# Flags without and with a value that mean nothing to a server without slots, graphics cards and batches to be set.
IGNORED = """--cont-batching --metrics --kv-unified --swa-full --slots --verbose --offline --jinja --no-jinja --no-ui
--no-mmproj --no-slots --no-cache-idle-slots --no-models-autoload --embedding""".split()
IGNORED_WITH_VALUE = "--batch-size --ubatch-size --n-gpu-layers --cache-ram -fa --reasoning-format --reasoning --tags".split()


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag in ["--host", "--port", "--temp", "--seed", "--model", "--hf-repo", "--hf-file", "--alias", "--ctx-size",
                 "--parallel", "--n-predict", "--api-key", "--chat-template", "--chat-template-file", "--threads",
                 "--cors-origins"]:
        parser.add_argument(flag)
    for flag in IGNORED:
        parser.add_argument(flag, action="store_true")
    for flag in IGNORED_WITH_VALUE:
        parser.add_argument(flag)
    given, unknown = parser.parse_known_args()
    if unknown:
        sys.exit(f"not supported: {' '.join(unknown)}")
    model = given.model
    if given.hf_repo:
        if "stories260K" not in f"{given.hf_repo}{given.hf_file}":
            sys.exit(f"not here: {given.hf_repo} {given.hf_file}")
        model = os.environ["INFILL" if "infill" in given.hf_repo else "STORIES"]
    args = [os.environ["QUIPU"], "serve", model, "-v", "-t", "1", "--no-tuning"]
    slots = max(1, int(given.parallel or 4))
    if given.host and given.host.endswith(".sock"):
        args += ["--socket", given.host]
    else:
        args += ["--host", given.host or "127.0.0.1", "--port", given.port or "8080"]
    # llama-server divides its context among its slots, unless they share it.
    if given.ctx_size and int(given.ctx_size):
        context = int(given.ctx_size)
        args += ["-c", str(context if given.kv_unified else context // slots)]
    args += ["--parallel", str(slots)]
    for flag, value in [("--temp", given.temp), ("--seed", given.seed), ("-n", given.n_predict)]:
        if value is not None:
            args += [flag, value]
    # In llama-server it is a set, and the id is the first of a sorted one.
    for alias in sorted((given.alias or "").split(",")):
        if alias.strip():
            args += ["--alias", alias.strip()]
    template = given.chat_template_file
    if not template:
        name = given.chat_template or "chatml"
        if name not in TEMPLATES and "{" not in name and not given.jinja:
            sys.exit(f"no template is called {name} here")
        text = TEMPLATES.get(name, name)
        with tempfile.NamedTemporaryFile("w", suffix=".jinja", delete=False) as file:
            file.write(text)
        template = file.name
    args += ["--template", template]
    if given.cors_origins and given.cors_origins != "*":
        for origin in given.cors_origins.split(","):
            args += ["--cors-origin", origin]
    if given.api_key:
        os.environ["QUIPU_API_KEY"] = given.api_key
    os.execv(args[0], args)


main()
