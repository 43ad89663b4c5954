#!/usr/bin/env python3
"""Renders conversations with Hugging Face's apply_chat_template, for runtime/tests/chat.rs to compare with.

    template_reference.py TEMPLATES OUT.json

TEMPLATES is a directory of *.jinja files. OUT.json gets a list of cases: what was rendered, with what, and the text, or the error.
Needs transformers (without torch). tests/data/templates/expected.json is this script's output for that directory; the output for a
directory of Meta's templates is made when needed, since those are not ours to ship.
"""

import datetime as dt
import json
import os
import pathlib
import sys

os.environ["TZ"] = "UTC"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import jinja2
import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

NOW = 1_722_001_507  # 2024-07-26 13:45:07 UTC


class FixedDatetime(dt.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, dt.timezone.utc).replace(tzinfo=None)


chat_template_utils.datetime = FixedDatetime

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather <now> & \"here\", it's 20° — \U0001f999",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Städte too\nsecond line"},
                "days": {"type": "integer", "enum": [1, 2, 3]},
                "exact": {"type": "number", "minimum": 0.5, "maximum": 1e16, "tiny": 1e-07, "whole": 2.0},
            },
            "required": ["city"],
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "description": "", "parameters": {"type": "object", "properties": {}, "required": []}},
}
USER = {"role": "user", "content": "  How is the weather in Cuzco?\n"}
SYSTEM = {"role": "system", "content": " You speak Quechua & <English>. "}
ANSWER = {"role": "assistant", "content": "\nCold.  "}
CALL = {
    "role": "assistant",
    "tool_calls": [
        {
            "type": "function",
            "id": "c1",
            "function": {"name": "get_weather", "arguments": {"city": "Cuzco \"ñ\"", "unit": "<C>"}},
        }
    ],
}
FEATURES = [
    {"role": "user", "content": "  Hello, World"},
    {"role": "assistant", "content": "yes"},
    {
        "role": "user",
        "content": "ok",
        "data": {
            "text": "é\"\\/\b\f\n\r\t\u0001\u007f☃\U0001f999'<>&",
            "list": [1, 2, 3],
            "empty": [],
            "none": {},
            "nothing": None,
            "yes": True,
            "no": False,
            "float": 1.5,
            "deep": {"a": {"b": "c", "z": [{"y": 1}, []]}},
        },
    },
]

# name, messages, tools, further variables
CASES = [
    ("user", [USER], None, {}),
    ("system and user", [SYSTEM, USER], None, {}),
    ("turns", [SYSTEM, USER, ANSWER, {"role": "user", "content": "And tomorrow?"}], None, {}),
    ("empty texts", [{"role": "system", "content": ""}, {"role": "user", "content": ""}], None, {}),
    ("date given", [USER], None, {"date_string": "01 Jan 2030"}),
    ("tools", [USER], [WEATHER], {}),
    ("tools and system", [SYSTEM, USER], [WEATHER, CLOCK], {}),
    ("tools in the system prompt", [SYSTEM, USER], [WEATHER], {"tools_in_user_message": False}),
    ("no tools", [USER], [], {}),
    ("custom tools", [SYSTEM, USER], None, {"custom_tools": [CLOCK]}),
    ("builtin tools", [USER], None, {"builtin_tools": ["brave_search", "code_interpreter"]}),
    ("call", [USER, CALL], [WEATHER], {}),
    ("null content and call", [USER, {**CALL, "content": None}], [WEATHER], {}),
    ("result", [SYSTEM, USER, CALL, {"role": "tool", "tool_call_id": "c1", "content": "12 °C & \"rain\"\n"}], [WEATHER], {}),
    ("result as JSON", [USER, CALL, {"role": "tool", "content": {"t": 12.0, "sky": ["grey", None]}}], [WEATHER], {}),
    ("ipython result", [USER, CALL, {"role": "ipython", "content": ["a", 1]}, ANSWER, USER], None, {}),
    ("builtin call", [USER, CALL], None, {"builtin_tools": ["get_weather"]}),
    ("two calls", [USER, {"role": "assistant", "tool_calls": CALL["tool_calls"] * 2}], [WEATHER], {}),
    ("only system and tools", [SYSTEM], [WEATHER], {}),
    ("parts", [{"role": "user", "content": [{"type": "text", "text": "Part 1. "}, {"type": "image"}, {"type": "text", "text": "2"}]}], None, {}),
    ("unknown role", [{"role": "wizard", "content": "Abracadabra"}], None, {}),
    ("user twice", [USER, USER], None, {}),
    ("special tokens in the text", [{"role": "user", "content": "<|eot_id|>{{ 1 }}<s>"}], None, {}),
    ("bos overridden", [USER], None, {"bos_token": "<BOS>"}),
]


def main():
    source, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    cases = []
    for path in sorted(source.glob("*.jinja")):
        template = path.read_text()
        rows = [("features", FEATURES, None, {})] if path.stem == "features" else CASES
        for name, messages, tools, variables in rows:
            for add_generation_prompt in (False, True):
                for bos, eos in (("<|begin_of_text|>", "<|eot_id|>"), (None, None)):
                    if bos is None and (name not in ("user", "tools") or add_generation_prompt):
                        continue
                    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token=bos, eos_token=eos)
                    case = {
                        "template": path.name,
                        "name": name,
                        "messages": messages,
                        "tools": tools,
                        "variables": variables,
                        "add_generation_prompt": add_generation_prompt,
                        "bos": bos,
                        "eos": eos,
                        "now": NOW,
                    }
                    try:
                        case["text"] = tokenizer.apply_chat_template(
                            messages,
                            tools=tools,
                            chat_template=template,
                            add_generation_prompt=add_generation_prompt,
                            tokenize=False,
                            **variables,
                        )
                    except jinja2.exceptions.UndefinedError as error:
                        case["failed"] = str(error)
                    except jinja2.exceptions.TemplateError as error:
                        case["refused"] = str(error)
                    except TypeError as error:
                        case["failed"] = str(error)
                    cases.append(case)
    made_by = f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}"
    out.write_text(json.dumps({"made_by": made_by, "cases": cases}, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(cases)} cases by {made_by}")


if __name__ == "__main__":
    main()
