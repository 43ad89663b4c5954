#!/usr/bin/env python3
"""Uses the page of `quipu serve` in a headless browser, as a person would.

    check.py QUIPU [--model MODEL] [--screenshots DIRECTORY] [--script PROGRAM]

Prints a line for each thing that was tried (`ok: …` or `FAILED: …`); without a browser one that says SKIPPED."""

import argparse
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from browser import Browser, available
from wire import Wire

failed = 0


def check(name, good, seen=""):
    global failed
    failed += not good
    print(f"ok: page: {name}" if good else f"FAILED: page: {name} ({seen})", flush=True)


class Server:
    def __init__(self, quipu, model, *options):
        command = [quipu, "serve", model, "--port", "0", "-v", "-t", "1", "-c", "500", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.port = None
        for line in self.process.stderr:
            if found := re.search(r"listening at http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        if self.port is None:
            raise RuntimeError("the server did not start")

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.process.stderr.close()


IDLE = "!conversation.run"
LAST = "[...document.querySelectorAll('.message')].at(-1)"


def text_of(browser, expression):
    return browser.run(f"return {expression}?.textContent ?? ''")


def settings(browser, **values):
    """Sets sampling in the dialog, as a user does."""
    browser.click("#settings")
    for name, value in values.items():
        browser.clear(f"#set-{name}")
        browser.type(f"#set-{name}", str(value))
    browser.click("#settings-dialog .actions .strong")


def say(browser, text):
    browser.type("#text", text)
    browser.press("Enter")


def chatting(browser, wire, shot):
    browser.open(wire.url + "/")
    check("the model is found", browser.wait("!document.getElementById('model').disabled"))
    check("the cursor is in the box", browser.run("return document.activeElement.id") == "text")
    shot("empty")
    settings(browser, temperature=0, max_tokens=60, seed=1)

    # A stream, on a slow wire.
    wire.delay = 0.05
    browser.type("#text", "Tell me")
    browser.press("Shift+Enter")
    browser.type("#text", "a story")
    browser.press("Enter")
    check("the answer grows", browser.wait(f"conversation.run && {LAST}.querySelector('.body').textContent.length > 10"))
    first = text_of(browser, f"{LAST}.querySelector('.body')")
    check("Shift+Enter breaks a line", browser.run("return conversation.chat.nodes[0].text") == "Tell me\na story")
    check("it can be stopped", browser.run("return !document.getElementById('stop').hidden"))
    shot("writing")
    check("it goes on growing", browser.wait(f"{LAST}.querySelector('.body').textContent.length > {len(first)}"))
    browser.press("Escape")
    check("Escape stops", browser.wait(IDLE, 3))
    check("what was written stays", text_of(browser, f"{LAST}.querySelector('.body')").startswith(first.strip()))
    check("it says that it was stopped", "stopped" in text_of(browser, f"{LAST}.querySelector('.tools')"))
    wire.delay = 0
    before = browser.run("return conversation.chat.nodes.at(-1).text")
    browser.click(".message:last-child [data-do=more]")
    browser.wait(IDLE)
    after = browser.run("return conversation.chat.nodes.at(-1).text")
    note = browser.run("return conversation.chat.nodes.at(-1).note")
    check("a stopped answer goes on", after.startswith(before) and (len(after) > len(before) or note), after)

    # Versions.
    browser.click(".message:last-child [data-do=again]")
    browser.wait(IDLE)
    again = browser.run("return conversation.chat.nodes.at(-1)")
    check("another answer is a version", text_of(browser, ".versions".join(["document.querySelector('", "')"])) == "2/2")
    check("its rate and its prompt are told", "tokens/s" in text_of(browser, f"{LAST}.querySelector('.tools')") and again["stats"]["prompt"] > 0, again)
    check("the context is told", "of 500" in text_of(browser, "document.getElementById('context')"))
    browser.click("[data-move=previous]")
    check("the first version is there", text_of(browser, "document.querySelector('.versions')") == "1/2")
    check("the focus stays with the versions", browser.run("return document.activeElement.dataset.move") == "next")
    browser.click(".message:first-child [data-do=edit]")
    browser.clear(".editor textarea")
    browser.type(".editor textarea", "Tell me about a fox")
    shot("editing")
    browser.press("Enter")
    browser.wait(IDLE)
    check("an edited message is a branch", browser.run("return conversation.chat.nodes.length") == 5)
    check("the branch is shown", "about a fox" in text_of(browser, "document.getElementById('log')"))
    say(browser, "And then?")
    browser.wait(IDLE)
    asked = json.loads(wire.bodies[-1])
    roles = [message["role"] for message in asked["messages"]]
    check("only the branch is sent", roles == ["user", "assistant", "user"] and "about a fox" in asked["messages"][0]["content"], roles)
    seen = browser.run("return conversation.chat.nodes.at(-1)")
    check("what came from the cache is told", seen["stats"]["cached"] > 0 and "cached" in text_of(browser, f"{LAST}.querySelector('.tools')"), seen)
    check("sampling is sent", (asked["temperature"], asked["seed"], asked["max_tokens"]) == (0, 1, 60))
    return again


def keeping(browser, shot, downloads):
    log = text_of(browser, "document.getElementById('log')")
    browser.reload()
    browser.wait("!document.getElementById('model').disabled")
    check("a reload keeps the conversation", text_of(browser, "document.getElementById('log')") == log)
    browser.click("#chats li.current [data-do=rename]")
    browser.press(*"Of foxes", "Enter")
    check("a conversation is renamed", text_of(browser, "document.querySelector('#chats .current .chat')") == "Of foxes")
    browser.click("#export")
    file = downloads / "quipu-conversations.json"
    end = time.monotonic() + 10
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.05)
    check("conversations are exported", file.exists() and json.loads(file.read_text())["chats"][0]["title"] == "Of foxes")
    browser.click("#chats li.current [data-do=delete]")
    check("a conversation is deleted", browser.run("return localStorage.length > 0 && sidebar.chats.length") == 0)
    browser.type("#import-file", str(file))
    check("an import brings it back", browser.wait("document.querySelectorAll('#chats li').length === 1"))
    check("as it was", text_of(browser, "document.getElementById('log')") == log)
    browser.click("#chats li.current [data-do=delete]")
    browser.wait("document.querySelector('.notice button')")
    browser.run("[...document.querySelectorAll('.notice button')].find((button) => button.textContent === 'Undo').click()")
    check("a deletion can be undone", text_of(browser, "document.getElementById('log')") == log)
    bad = downloads / "bad.json"
    bad.write_text('{"format": "quipu-conversations", "version": 1, "chats": [{"id": "x", "nodes": [{"id": 1, "role": "user"}]}]}')
    browser.type("#import-file", str(bad))
    check("a wrong file is refused in a sentence", browser.wait("document.getElementById('notices').textContent.includes('nothing was imported')"))
    check("and changes nothing", browser.run("return sidebar.chats.length") == 1)
    browser.run("document.querySelectorAll('.notice').forEach((line) => line.remove())")
    shot("kept")


def going_wrong(browser, wire, shot):
    count = lambda: browser.run("return document.querySelectorAll('.message').length")
    note = lambda: text_of(browser, f"{LAST}.querySelector('.note')")
    browser.click("#new")
    wire.busy = True
    say(browser, "Are you there?")
    browser.wait(IDLE)
    check("a full server is told", "Try again in 7 seconds" in note(), note())
    shot("busy")
    wire.busy = False
    wire.events, wire.delay = 6, 0.02
    browser.click(".message:last-child [data-do=again]")
    browser.wait(IDLE)
    check("a lost connection is told", "connection was lost" in note(), note())
    check("what had come is kept", len(text_of(browser, f"{LAST}.querySelector('.body')")) > 0)
    check("nothing else is lost", count() == 2)
    wire.events, wire.delay = None, 0
    browser.click(".message:last-child [data-do=again]")
    browser.wait(IDLE)
    check("the next try works", not note() and len(text_of(browser, f"{LAST}.querySelector('.body')")) > 0, note())
    browser.run("document.getElementById('text').value = 'once upon a time '.repeat(400)")
    browser.type("#text", ".")
    browser.press("Enter")
    browser.wait(IDLE)
    check("a context that is too small is told with both numbers", re.search(r"has [\d,]+ tokens, and this model takes 500", note()), note())
    check("the long message is kept", browser.run("return shown(conversation.chat).at(-2).node.text.length > 6000"))
    shot("context")
    browser.click("#new")

    # A schema: the server's own word on whether it can.
    browser.click("#settings")
    browser.wait("settings.refused !== undefined")
    # The server's own word.
    taken = browser.run(
        "return fetch('/v1/chat/completions', {method: 'POST', body: JSON.stringify({messages: [{role: 'user', content: 'x'}], max_tokens: 1, response_format: {type: 'json_object'}})}).then((answer) => answer.ok)"
    )
    told = browser.run("return document.getElementById('schema').disabled && document.getElementById('schema-state').textContent.startsWith('The server says')")
    check("the box for a schema works, or says why not", told is not taken, (taken, told))
    browser.run("document.querySelector('#settings-dialog form').scrollTop = 1e6")
    shot("settings")
    browser.press("Escape")


def attaching(browser, wire, shot, downloads):
    browser.click("#new")
    text = downloads / "notes.md"
    text.write_text("# Notes\n```\ncode\n```\nend\n")
    browser.type("#file", str(text))
    check("a file is attached", browser.wait("document.querySelectorAll('#files li').length === 1"))
    binary = downloads / "picture.bin"
    binary.write_bytes(bytes(range(256)))
    browser.type("#file", str(binary))
    check("what is no text is refused", browser.wait("document.getElementById('notices').textContent.includes('no text')"))
    say(browser, "What does it say?")
    browser.wait(IDLE)
    content = json.loads(wire.bodies[-1])["messages"][-1]["content"]
    check("the file is sent in a longer fence", content == "notes.md:\n````\n# Notes\n```\ncode\n```\nend\n\n````\n\nWhat does it say?", content)
    shot("file")


TEXT = """# Of bread

Bread is **old**, *older* than `writing`; see [a page](https://example.org/bread "title"), https://example.org/x. and [this](javascript:alert(1)).

1. Flour and water
   - rye
   - wheat, ~~or not~~
2. Time
   ```python
   def knead(dough, minutes=10):
       return [fold(dough) for _ in range(minutes)]
   ```

| Grain | Protein |
|:------|--------:|
| wheat | 12 %    |
| rye \\| mixed | 9 % |

> Patience, <img src=x onerror=alert(1)> and an oven.

- [x] bought
- [ ] baked

---
```js
const loaves = 2 * 3 * 4;
```
A last line with 2 * 3 * 4, snake_case_words, ***both*** and an \\*escape\\*.

Some lines that begin
-like a list,
1.5 of them,
> or a quote."""


def rendering(browser, shot):
    show = """
        const [text, step] = arguments;
        const parent = document.createElement('div');
        const growing = new Growing(parent);
        for (let i = 0; i <= text.length; i += step) growing.show(text.slice(0, i));
        growing.show(text);
        return parent.outerHTML.replace(/ data-language="[^"]*"/g, '');
    """
    at_once = browser.run(show, TEXT, 10**6)
    differ = [step for step in (1, 2, 3, 7, 50) if browser.run(show, TEXT, step) != at_once]
    check("a text that grows looks as it does at once", not differ, differ)
    for part in [
        '<h4 class="level1">Of bread</h4>',
        "<strong>old</strong>, <em>older</em> than <code>writing</code>",
        '<a href="https://example.org/bread" rel="noopener noreferrer" target="_blank">a page</a>',
        '<a href="https://example.org/x" rel="noopener noreferrer" target="_blank">https://example.org/x</a>.',
        "[this](javascript:alert(1))",
        "<ol><li>Flour and water<ul><li>rye</li><li>wheat, <del>or not</del></li></ul></li><li>Time<figure",
        "def knead(dough, minutes=10):\n    return [fold(dough)",
        '<td class="right">12 %</td>',
        "<td class=\"\">rye | mixed</td>",
        "<blockquote><p>Patience, &lt;img src=x onerror=alert(1)&gt; and an oven.</p></blockquote>",
        '<li class="task">☑ bought</li>',
        "<hr>",
        "2 * 3 * 4, snake_case_words, <strong><em>both</em></strong> and an *escape*.",
    ]:
        check(f"Markdown: {part[:40]!r}", part in at_once, at_once)
    time_it = "const start = performance.now(); new Growing(document.createElement('div')).show(arguments[0]); return performance.now() - start"
    for hostile in ["*a " * 40000, "[" * 100000, "[a](" * 30000, "`" * 3 + "a`" * 40000, "> " * 5000, "_a_ **b " * 20000, "- " * 3000, "|a" * 40000 + "\n|-"]:
        took = browser.run(time_it, hostile)
        check(f"{hostile[:6]!r} many times takes no time", took < 2000, took)
    browser.run(
        """
        const chat = newChat();
        addNode(chat, addNode(chat, null, 'user', 'How is bread made?'), 'assistant', arguments[0], {model: 'demo', end: 'stop',
          stats: {prompt: 812, cached: 640, written: 214, promptSeconds: 0.42, perSecond: 43.2}});
        conversation.open(chat);
        document.getElementById('scroll').scrollTop = 0;
        """,
        TEXT,
    )
    shot("markdown")
    browser.run("document.getElementById('scroll').scrollTop = 1e6")
    shot("markdown-end")


def looks(browser, shot):
    browser.colours("dark")
    browser.run("document.getElementById('scroll').scrollTop = 0")
    ground = "return getComputedStyle(document.body).backgroundColor"
    dark = browser.run(ground)
    shot("dark")
    browser.click("#theme")
    light = browser.run(ground)
    check("the switch overrides the system's colours", dark != light, (dark, light))
    browser.click("#theme")
    check("and has dark ones, too", browser.run(ground) == dark)
    browser.click("#theme")
    browser.colours("light")
    check("without it they are the system's", browser.run(ground) == light)
    browser.size(360, 740, phone=True)
    time.sleep(0.3)
    wide = "return document.documentElement.scrollWidth"
    check("it fits a phone", browser.run(wide) <= 360, browser.run(wide))
    shot("phone")
    browser.click("#menu")
    check("the list opens on a phone", browser.wait("getComputedStyle(document.getElementById('sidebar')).visibility === 'visible'"))
    time.sleep(0.3)
    shot("phone-menu")
    browser.press("Escape")
    check("and closes", browser.wait("getComputedStyle(document.getElementById('sidebar')).visibility === 'hidden'"))
    check("with the focus where it was", browser.run("return document.activeElement.id") == "menu")
    browser.click("#settings")
    check("the settings fit a phone", browser.run("return document.getElementById('settings-dialog').getBoundingClientRect().right") <= 360)
    shot("phone-settings")
    browser.press("Escape")
    browser.devtools("Emulation.clearDeviceMetricsOverride")


def watching(browser, wire, shot):
    wire.absent = ("/metrics",)
    browser.click("#show-live")
    check("a server without numbers is told", browser.wait("document.getElementById('live-state').textContent.includes('no /metrics')"))
    browser.click("#show-chat")
    wire.absent = ()
    browser.click("#show-live")
    browser.run(
        "for (let i = 0; i < 4; i++) call('/v1/chat/completions', {body: {messages: [{role: 'user', content: 'A tale, please ' + (i >> 1)}], max_tokens: 400}})"
    )
    drawn = browser.wait("live.charts[0].points.filter((values) => values[0] > 0).length >= 1 && live.charts[0].points.length > 4", 40)
    check("throughput is plotted", drawn, browser.run("return live.charts.map((chart) => chart.points)"))
    check("it is told in words, too", "Now: written" in browser.run("return document.querySelector('#charts svg').getAttribute('aria-label')"))
    shot("live")
    browser.click("#show-chat")
    asked = len(wire.paths)
    time.sleep(1.5)
    check("nothing is asked when nobody looks", "/metrics" not in wire.paths[asked + 1 :])


def reading(browser):
    """What a screen reader needs."""
    nameless = browser.run(
        """
        const named = (node) => node.getAttribute('aria-label') || node.textContent.trim() || node.labels?.length || node.getAttribute('aria-labelledby');
        return [...document.querySelectorAll('button, input:not([hidden]), select, textarea, [role=region]')].filter((node) => !named(node)).map((node) => node.outerHTML.slice(0, 90));
        """
    )
    check("everything that is used has a name", not nameless, nameless)
    check("the conversation is a log that is read as it grows", browser.run("const log = document.getElementById('log'); return log.role === 'log' && log.ariaLive === 'polite'"))
    order = []
    browser.run("document.activeElement.blur(); document.querySelector('.skip').focus()")
    for _ in range(40):
        order.append(browser.run("return document.activeElement.id"))
        browser.press("Tab")
    known = [name for name in order if name in ("new", "import", "model", "settings", "scroll", "attach", "text")]
    check("Tab goes from the list over the head to the box", known[:7] == ["new", "import", "model", "settings", "scroll", "attach", "text"], order)
    outline = browser.run("document.getElementById('new').focus(); return getComputedStyle(document.getElementById('new')).outlineStyle")
    check("the focus is seen", outline == "solid", outline)


def with_a_key(browser, quipu, model, directory, shot):
    keys = directory / "keys"
    keys.write_text("right-key\n")
    server = Server(quipu, model, "--api-key-file", str(keys))
    try:
        browser.open(f"http://127.0.0.1:{server.port}/")
        check("the page asks for the key", browser.wait("document.getElementById('key-dialog').open"))
        shot("key")
        browser.type("#key", "wrong-key")
        browser.press("Enter")
        check("a wrong key is told", browser.wait("document.getElementById('key-dialog').open && document.getElementById('key-why').textContent.includes('does not know')"))
        browser.type("#key", "right-key")
        browser.press("Enter")
        check("the right one opens", browser.wait("!document.getElementById('model').disabled"))
        browser.reload()
        check("it lasts as long as the tab", browser.wait("!document.getElementById('model').disabled"))
        check("and is kept nowhere else", browser.run("return !JSON.stringify(localStorage).includes('right-key')"))
        say(browser, "A tale")
        browser.wait("conversation.run || conversation.chat.nodes.length === 2")
    finally:
        server.process.kill()
        server.close()
    browser.wait(IDLE)
    say(browser, "Another")
    browser.wait(IDLE)
    note = text_of(browser, f"{LAST}.querySelector('.note')")
    check("a server that is gone is told", "cannot be reached" in note, note)


SUMS = r"""
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    result = {
        "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}},
        "tools/list": {"tools": [{"name": "add", "inputSchema": schema}]},
        "tools/call": {"content": [{"type": "text", "text": "5<b>"}]},
    }[asked["method"]]
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""

# The model calls if it has tools, and says what came of it.
SCRIPT = {
    "template": "{# <tool_call> #}{% set last = messages[-1] %}{% for m in messages %}{{ m.content }}{% endfor %}"
    "{% if not tools %}<|none|>{% elif last.role != 'tool' %}<|asked|>{% elif last.content == '5<b>' %}<|told|>{% else %}<|refused|>{% endif %}",
    "says": [
        ["<|asked|>", [["Let me see."], ["\n<tool_call>"], ["\n{\"name\": \""], ["add"], ["\", \"arguments\": {\"a\": "], ["2"], ["}}"], ["\n</tool_call>"]]],
        ["<|told|>", [["It is five."]]],
        ["<|refused|>", [["As you like."]]],
        ["<|none|>", [["No tools."]]],
    ],
}


def using_tools(browser, quipu, script, directory, shot):
    """Tools that the server runs: chosen in the settings, asked about, shown."""
    (directory / "script.json").write_text(json.dumps(SCRIPT))
    (directory / "sums.py").write_text(SUMS)
    model = str(directory / "script.gguf")
    subprocess.run([script, directory / "script.json", model], check=True)
    server = Server(quipu, model, "--temp", "0", "--mcp", f"sums={sys.executable} {directory / 'sums.py'}", "--allow-tool", "add")

    def calls():
        return browser.run(f"return [...{LAST}.querySelectorAll('details')].map((node) => node.textContent)")

    def body():
        return text_of(browser, f"{LAST}.querySelector('.body')")

    try:
        browser.open(f"http://127.0.0.1:{server.port}/")
        check("tools are found", browser.wait("tools.servers.length === 1"))
        say(browser, "Without")
        browser.wait("conversation.chat.nodes.length === 2 && " + IDLE)
        check("none is used that was not chosen", body() == "No tools.", body())
        browser.click("#settings")
        browser.click("#tool-servers input")
        shot("tools")
        browser.click("#settings-dialog .actions .strong")
        say(browser, "How much?")
        browser.wait("conversation.chat.nodes.length === 4 && " + IDLE)
        check("the user is asked", len(calls()) == 1 and "add of sums: asks" in calls()[0] and '{"a":2}' in calls()[0], calls())
        shot("asked")
        browser.click("[data-do=refuse]")
        browser.wait(f"{LAST}.querySelector('.body').textContent.includes('like')")
        check("a call can be refused", "As you like." in body() and "not allowed" in calls()[0], (body(), calls()))
        browser.wait(IDLE)
        say(browser, "Again")
        browser.wait("conversation.chat.nodes.length === 6 && " + IDLE)
        browser.click(".message:last-child [data-do=allow]")
        browser.wait(f"{LAST}.querySelector('.body').textContent.includes('five')")
        browser.wait(IDLE)
        check("or allowed", "It is five." in body(), body())
        check("and its result is shown, as text", len(calls()) == 1 and "add of sums: done" in calls()[0] and "5<b>" in calls()[0], calls())
        shot("called")
        browser.reload()
        browser.wait("tools.servers.length === 1")
        check("it is kept", "It is five." in body() and "5<b>" in calls()[0], calls())
        forged = browser.run(
            "return readItems([{type: 'mcp_approval_request', id: 'a'}, {type: 'mcp_approval_response', approval_request_id: 'a', approve: true}]).length"
        )
        check("nobody agrees by a file", forged == 1, forged)
        browser.click("#settings")
        browser.click("#tool-servers label:last-child input")
        browser.click("#settings-dialog .actions .strong")
        say(browser, "Once more")
        browser.wait("conversation.chat.nodes.length === 8 && " + IDLE)
        check("without asking it is one answer", "It is five." in body() and "done" in calls()[0], (body(), calls()))
    finally:
        server.close()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("quipu")
    arguments.add_argument("--model", default="demo")
    arguments.add_argument("--screenshots", type=pathlib.Path)
    arguments.add_argument("--script", help="the program that makes a model of a script; without it no tools are tried")
    given = arguments.parse_args()
    if None in available():
        print("SKIPPED: page: no Chromium with a chromedriver")
        return 0
    directory = pathlib.Path(tempfile.mkdtemp(prefix="quipu-page-"))
    if given.screenshots:
        given.screenshots.mkdir(parents=True, exist_ok=True)
    server = Server(given.quipu, given.model)
    wire = Wire(server.port)
    browser = Browser(directory)

    def shot(name):
        if given.screenshots:
            browser.screenshot(given.screenshots / f"{name}.png")

    try:
        chatting(browser, wire, shot)
        keeping(browser, shot, directory)
        going_wrong(browser, wire, shot)
        attaching(browser, wire, shot, directory)
        rendering(browser, shot)
        reading(browser)
        looks(browser, shot)
        watching(browser, wire, shot)
        # The browser itself notes every answer that is no 2xx; the rest would be a fault of the page.
        complaints = [line for line in browser.complaints() if line["source"] != "network"]
        check("the browser has nothing to complain about", not complaints, complaints)
        if given.script:
            using_tools(browser, given.quipu, given.script, directory, shot)
        else:
            print("SKIPPED: page: tools, without --script")
        with_a_key(browser, given.quipu, given.model, directory, shot)
    finally:
        browser.close()
        wire.close()
        server.close()
        shutil.rmtree(directory)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
