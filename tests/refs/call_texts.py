#!/usr/bin/env python3
"""Answers that call tools in all forms that models write, for runtime/tests/answers.rs.

    call_texts.py > tests/data/calls/texts.json

Each answer is put together from calls, so that what it holds is known by construction and not from any parser. Expected arguments are
JSON values; `content` and `reasoning` are the text outside of calls.
"""

import json
import random

TOOLS = [
    {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "celsius": {"type": "boolean"},
            },
            "required": ["city"],
        },
    },
    {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"numbers": {"type": "array", "items": {"type": "number"}}, "round": {"type": "number"}},
            "required": ["numbers"],
        },
    },
    {
        "name": "write_file",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}, "text": {"type": "string"}}},
    },
    {"name": "now", "parameters": {"type": "object", "properties": {}}},
    {"name": "brave_search", "parameters": {"type": "object", "properties": {"query": {"type": "string"}}}},
    {"name": "place_order", "parameters": {"type": "object", "properties": {"item": {"type": "object"}, "note": {"type": ["string", "null"]}}}},
]
INTERPRETER = {"name": "code_interpreter", "parameters": {"type": "object", "properties": {"code": {"type": "string"}}}}

CALLS = [
    ("get_weather", {"city": "Cusco"}),
    ("get_weather", {"city": "São Tomé", "days": 3}),
    ("get_weather", {"city": "Los \"Ángeles\"", "days": 1, "celsius": True}),
    ("get_weather", {"city": "{\"name\": \"now\"}", "celsius": False}),
    ("add", {"numbers": [1, -2.5, 3e2]}),
    ("add", {"numbers": [], "round": 0}),
    ("write_file", {"path": "src/main.c", "text": "int main(void) {\n\treturn '\\0';\n}\n"}),
    ("write_file", {"path": "a.md", "text": "# Title; with, commas ]) </tool_call> and ``` marks"}),
    ("write_file", {"path": "", "text": "💡 \\u00e9 \\n stays"}),
    ("now", {}),
    ("brave_search", {"query": "who is 'quipucamayoc'?"}),
    ("place_order", {"item": {"id": 7, "tags": ["a", {"b": None}]}, "note": None}),
    ("place_order", {"item": {"deep": {"er": {"est": [[[1]]]}}}, "note": "x"}),
]

PROSE = [
    "Let me look that up.\n",
    "I need two things: {a, b}.\n\n",
    "Sure!\n\n",
    "In C one writes\nif (x) { y(); }\nwhich is fine.\n",
    "A list [1, 2] and <b>bold</b> text.\n",
    "« Voilà » :\n",
]

rng = random.Random(7)


def dumps(value):
    style = rng.randrange(4)
    if style == 0:
        return json.dumps(value)
    if style == 1:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if style == 2:
        return json.dumps(value, ensure_ascii=False, indent=rng.choice([2, 4]))
    return json.dumps(value, ensure_ascii=False)


def llama_json(call):
    name, arguments = call
    key = rng.choice(["parameters", "arguments"])
    style = rng.randrange(6)
    if style == 0:
        return dumps({"type": "function", "name": name, key: arguments})
    if style == 1:
        return dumps({key: arguments, "name": name})
    if style == 2:
        return dumps({"type": "function", "function": {"name": name, key: arguments}})
    if style == 3:
        return dumps({"function": name, key: arguments})
    if style == 4:
        return dumps({"name": name, key: dumps(arguments)})
    return dumps({"name": name, key: arguments})


def plain_json(call):
    return dumps({"name": call[0], rng.choice(["parameters", "arguments"]): call[1]})


def python(call):
    name, arguments = call
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def one_line(text):
    return "\n" not in text


def lines(form):
    return lambda calls: "\n".join(form(c) for c in calls)


def semicolons(calls):
    return rng.choice(["; ", ";", " ;\n"]).join(llama_json(c) for c in calls)


def fenced(calls):
    return "\n".join(f"```{rng.choice(['json', '', 'tool_call'])}\n{plain_json(c)}\n```" for c in calls)


def fenced_list(calls):
    return f"```json\n[{', '.join(plain_json(c) for c in calls)}]\n```"


def json_list(calls):
    return f"[{rng.choice([', ', ',', ',' + chr(10)]).join(plain_json(c) for c in calls)}]"


def python_tag(calls):
    return "<|python_tag|>" + rng.choice([semicolons, json_list, pythonic])(calls)


def pythonic(calls):
    return f"[{', '.join(python(c) for c in calls)}]"


def built_in(calls):
    def one(call):
        return f"{call[0]}.call({', '.join(f'{k}={json.dumps(v, ensure_ascii=False)}' for k, v in call[1].items())})"

    return rng.choice(["<|python_tag|>", ""]) + "\n".join(one(c) for c in calls)


def function(calls):
    return rng.choice(["", "\n"]).join(f"<function={c[0]}>{dumps(c[1])}</function>" for c in calls)


def hermes(calls):
    return "\n".join(f"<tool_call>\n{plain_json(c)}\n</tool_call>" for c in calls)


def mistral(calls):
    return "[TOOL_CALLS]" + rng.choice(["", " "]) + json_list(calls)


def mistral_named(calls):
    call_id = rng.choice(["", "[CALL_ID]a1B2c3D4e"])
    return "".join(f"[TOOL_CALLS]{c[0]}{call_id}[ARGS]{dumps(c[1])}" for c in calls)


# A form, whether it may stand amid text, and whether several calls keep to it.
FORMS = {
    "json": (lines(llama_json), True),
    "semicolons": (semicolons, True),
    "fenced": (fenced, True),
    "fenced_list": (fenced_list, True),
    "json_list": (json_list, True),
    "python_tag": (python_tag, True),
    "pythonic": (pythonic, True),
    "built_in": (built_in, True),
    "function": (function, True),
    "hermes": (hermes, True),
    "mistral": (mistral, True),
    "mistral_named": (mistral_named, True),
}

cases = []


def case(name, text, calls=(), content="", reasoning="", tools=None, **more):
    calls = [{"name": name, "arguments": arguments} for name, arguments in calls]
    cases.append({"name": name, "text": text, "content": content, "reasoning": reasoning, "calls": calls, **more})
    if tools:
        cases[-1]["tools"] = tools


# Every form with every call, alone; with thoughts, text before, text after; and several calls at once.
for form, (write, _) in FORMS.items():
    for call in CALLS:
        case(f"{form}, {call[0]}", write([call]), [call])
    for count in (2, 3, 3):
        calls = rng.sample(CALLS, count)
        case(f"{form}, {count} calls", write(calls), calls)
    for prose in rng.sample(PROSE, 3):
        calls = rng.sample(CALLS, rng.choice([1, 2]))
        case(f"{form}, text before", prose + write(calls), calls, content=prose)
    calls = rng.sample(CALLS, 1)
    case(f"{form}, text after", write(calls) + "\n\nThat should do.", calls, content="That should do.")
    thought = "They want " + rng.choice(["a call: {\"name\": \"now\", \"parameters\": {}}", "it.\nSo be it.", "x < y </thin"])
    case(f"{form}, thoughts", f"<think>\n{thought}\n</think>\n\n" + write(calls), calls, reasoning=thought)
    call = (rng.choice(["get_wether", "nothing", "add2"]), {"city": "Lima"})
    text = write([call])
    case(f"{form}, not declared", text, content=text)

# What models get nearly right.
W, A, P = "get_weather", "add", "place_order"
case("number as text", '{"name": "get_weather", "parameters": {"city": "Lima", "days": "3"}}', [(W, {"city": "Lima", "days": 3})])
case("float for integer", '{"name": "get_weather", "parameters": {"city": "Lima", "days": 3.0}}', [(W, {"city": "Lima", "days": 3})])
case("truth as text", '{"name": "get_weather", "parameters": {"city": "Lima", "celsius": "true"}}', [(W, {"city": "Lima", "celsius": True})])
case("Python's truth", '{"name": "get_weather", "parameters": {"city": "Lima", "celsius": True}}', [(W, {"city": "Lima", "celsius": True})])
case("list as text", '{"name": "add", "parameters": {"numbers": "[1, 2]"}}', [(A, {"numbers": [1, 2]})])
case("numbers as texts", '{"name": "add", "parameters": {"numbers": ["1", "2.5"]}}', [(A, {"numbers": [1, 2.5]})])
case("object as text", '{"name": "place_order", "parameters": {"item": "{\\"id\\": 1}"}}', [(P, {"item": {"id": 1}})])
case("null left out", '{"name": "get_weather", "parameters": {"city": "Lima", "days": null}}', [(W, {"city": "Lima"})])
case("null left out first", '{"name": "get_weather", "parameters": {"days": null, "city": "Lima"}}', [(W, {"city": "Lima"})])
case("null that may be", '{"name": "place_order", "parameters": {"note": null}}', [(P, {"note": None})])
case("comma at the end", '{"name": "get_weather", "parameters": {"city": "Lima",},}', [(W, {"city": "Lima"})])
case("single quotes", "{'name': 'get_weather', 'parameters': {'city': 'Lima', 'days': 2}}", [(W, {"city": "Lima", "days": 2})])
case("line break in a string", '{"name": "get_weather", "parameters": {"city": "Li\nma"}}', [(W, {"city": "Li\nma"})])
case("bad escape", '{"name": "brave_search", "parameters": {"query": "\\d+ \\\'x\\\'"}}', [("brave_search", {"query": "\\d+ 'x'"})])
case("half a pair", '{"name": "brave_search", "parameters": {"query": "\\ud83d!"}}', [("brave_search", {"query": "\ufffd!"})])
case("a pair", '{"name": "brave_search", "parameters": {"query": "\\ud83d\\udca1"}}', [("brave_search", {"query": "💡"})])
case("last brace missing", '{"name": "get_weather", "parameters": {"city": "Lima"}', [(W, {"city": "Lima"})])
case("both braces missing", '{"name": "get_weather", "parameters": {"city": "Lima"', [(W, {"city": "Lima"})])
case("both braces missing, cut", '{"name": "get_weather", "parameters": {"city": "Lima"', [(W, '{"city":"Lima"')], cut=True)
case("tag not closed", '<tool_call>{"name": "now", "arguments": {}}', [("now", {})])
case("function not closed", '<function=now>{}', [("now", {})])
case("function without arguments", "<function=now></function>", [("now", {})])
case("no arguments, marked", '<tool_call>\n{"name": "now"}\n</tool_call>', [("now", {})])
case("no arguments, not marked", '{"name": "now"}', content='{"name": "now"}')
case("arguments null", '{"name": "now", "parameters": null}', [("now", {})])
case("arguments empty text", '{"name": "now", "parameters": ""}', [("now", {})])
case("list not closed", '[{"name": "now", "arguments": {}}', [("now", {})])
case("fence not closed", '```json\n{"name": "now", "arguments": {}}', [("now", {})])
case("by place", '[get_weather("Lima", 2)]', [(W, {"city": "Lima", "days": 2})])
case("by place and name", '[get_weather("Lima", celsius=True)]', [(W, {"city": "Lima", "celsius": True})])
case("tuple", "[add(numbers=(1, 2))]", [(A, {"numbers": [1, 2]})])
case("white space", "  \n <|python_tag|> \n[ get_weather ( city = 'Lima' ) , now( ) ]\n", [(W, {"city": "Lima"}), ("now", {})])
case("id", '{"id": "call_1", "type": "function", "name": "now", "parameters": {}}', [("now", {})])
case("id after", '{"name": "now", "parameters": {}, "id": "call_1"}', [("now", {})])
case("several mixed", '<tool_call>{"name": "now", "arguments": {}}</tool_call>\n{"name": "now", "parameters": {}}\n[now()]', [("now", {})] * 3)
case("one of two declared", '{"name": "now", "parameters": {}}; {"name": "later", "parameters": {}}', [("now", {})], content='; {"name": "later", "parameters": {}}')
case("one of two in Python", "[now(), later()]", content="[now(), later()]")
case("broken", '{"name": "get_weather", "parameters": {"city": "Lima" "days": 2}}', [(W, '{"city":"Lima" "days": 2}}')])
case("cut in a string", '{"name": "get_weather", "parameters": {"city": "Li', [(W, '{"city":"Li')], cut=True)
case("cut in a number", '{"name": "get_weather", "parameters": {"city": "Lima", "days": 1', [(W, '{"city":"Lima","days":1')], cut=True)
case("cut in a name", '{"name": "get_wea', content='{"name": "get_wea', cut=True)
case("cut in Python", "[get_weather(city='Li", content="[get_weather(city='Li", cut=True)
case("two, only one may be", '{"name": "now", "parameters": {}}\n{"name": "now", "parameters": {}}', [("now", {})], content='{"name": "now", "parameters": {}}', parallel=False)

# What is no call.
for name, text in {
    "empty": "",
    "white space": " \n\t ",
    "a greeting": "Hello! How can I help?",
    "a program": "#include <stdio.h>\n\nint main(void) {\n    printf(\"hi\");\n    return 0;\n}\n",
    "JSON": '{"city": "Lima", "people": 10000000}',
    "JSON with a name": '{"name": "Lima", "parameters": {"people": 1}}',
    "JSON in a fence": '```json\n{"name": "Lima"}\n```\n',
    "a declaration": '{"name": "get_weather", "description": "Tells it.", "parameters": {"type": "object"}}',
    "a list": "[1, 2, 3]",
    "a list of objects": '[{"name": "Lima"}, {"name": "Cusco"}]',
    "a link": "[the docs](https://example.org) say so",
    "notes": "[Note] This is one.\n[2] And this.",
    "tags": "<p>One</p>\n<function>\n<tool>",
    "half a tag": "a <tool_cal",
    "half a mark": "a <|python_",
    "an open brace": "{",
    "an open bracket": "[",
    "a fence": "```",
    "only a mark": "<|python_tag|>",
    "mark and text": "<|python_tag|>print(1)",
    "a call of nothing": "print(now())\nnow()",
    "spelled in a line": 'Write {"name": "now", "parameters": {}} for that.',
    "inline code": '`{"name": "now", "parameters": {}}`',
    "arguments are a list": '{"name": "now", "parameters": [1]}',
    "arguments are a number": '{"name": "now", "parameters": 1}',
    "name twice": '{"name": "now", "name": "add", "parameters": {}}',
    "deep": "[" * 200,
    "deep objects": '{"parameters": ' + "[" * 100 + "]" * 100 + ', "name": "now"}',
    "half a thought": "So <think>what</think> now",
    "emoji": "💡\n💡{💡}",
    "indented": "  x = {\n    \"name\": \"now\"\n  }\n",
}.items():
    case(name, text, content=text)

# Thoughts.
case("thoughts", "<think>One.\n\nTwo.</think>\nThree.", reasoning="One.\n\nTwo.", content="Three.")
case("no thoughts", "<think>\n\n</think>\n\nThree.", content="Three.")
case("thoughts without end", "<think>\nOne. </thi", reasoning="One. </thi")
case("thoughts of Mistral", "[THINK]One.[/THINK]Two.", reasoning="One.", content="Two.")
case("begun by the prompt", "One.\n</think>\n\nTwo.", reasoning="One.", content="Two.", prompt="<|im_start|>assistant\n<think>\n")
case("begun twice", "<think>\nOne.\n</think>\n\nTwo.", reasoning="One.", content="Two.", prompt="<think>\n")
case("kept in the text", "<think>One.</think>\nTwo.", content="<think>One.</think>\nTwo.", thinking=False)
CALL = '{"name": "now", "parameters": {}}'
kept = f"<think>\n{CALL}\n<tool_call>{CALL}</tool_call></think>\n\n"
case("kept in the text, with calls", kept + CALL, [("now", {})], content=kept, thinking=False)
case("kept in the text, call on the line", f"<think>\n{CALL}</think>{CALL}", [("now", {})], content=f"<think>\n{CALL}</think>", thinking=False)
case("kept in the text, begun by the prompt", f"{CALL}\n</think>\nTwo.\n{CALL}", [("now", {})], content=f"{CALL}\n</think>\nTwo.\n", thinking=False, prompt="<think>\n")
case("kept in the text, without end", f" <think>\n{CALL}\n</thi", content=f" <think>\n{CALL}\n</thi", thinking=False)
case("white space first", "\n\n<think>One.</think>", reasoning="One.")

# Programs.
for name, code in {
    "one line": "print(1)",
    "lines": "import math\n\nfor i in range(3):\n    print(f\"{i}\\n\", math.pi)\n",
    "looks like a call": "[f(x) for x in y]",
    "looks like JSON": '{"a": 1}["a"]',
}.items():
    case(f"program, {name}", "<|python_tag|>" + code, [("code_interpreter", {"code": code})], tools=[*TOOLS, INTERPRETER])
case("program, cut", "<|python_tag|>print(", [("code_interpreter", '{"code":"print(')], tools=[*TOOLS, INTERPRETER], cut=True)

print('{"tools": %s,\n"cases": [' % json.dumps(TOOLS))
print(",\n".join(json.dumps(c, ensure_ascii=False) for c in cases))
print("]}")
