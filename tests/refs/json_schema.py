#!/usr/bin/env python3
"""Holds what was written within random schemas against Python's jsonschema, formats included.

    QUIPU_SCHEMAS=2000 QUIPU_WRITTEN=/tmp/written.jsonl cargo test --release -p quipu-constrain writes_is_valid
    (or what_is_written_is_valid, which draws from the grammars without a model; lines are appended)
    python3 tests/refs/json_schema.py /tmp/written.jsonl

Needs the packages jsonschema, rfc3339-validator, isoduration, fqdn and rfc3986-validator.
"""

import json
import sys

from jsonschema import Draft202012Validator, FormatChecker

# Its `time` is draft 3's, without an offset.
checker = FormatChecker(set(FormatChecker.checkers) - {"time"})
wrong = total = beyond = 0
for line in open(sys.argv[1], encoding="utf-8"):
    entry = json.loads(line)
    instance = json.loads(entry["text"])
    # A double does not tell whether 1e300 is a multiple of 3; integers are exact here.
    validator = Draft202012Validator(entry["schema"], format_checker=checker)
    total += 1
    try:
        errors = list(validator.iter_errors(instance))
    except OverflowError:
        # A number beyond what a double holds.
        beyond += 1
        continue
    for error in errors:
        if error.validator == "multipleOf" and isinstance(error.instance, float):
            continue
        if error.validator in ("anyOf", "oneOf") and "multipleOf" in json.dumps(error.schema):
            continue
        wrong += 1
        print(f"{error.message}\n  {entry['text']}\n  {json.dumps(entry['schema'])}")
print(f"{total} texts, {wrong} wrong, {beyond} with numbers that Python's floats do not hold")
sys.exit(wrong > 0)
