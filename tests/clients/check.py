#!/usr/bin/env python3
"""The official clients against `quipu serve demo`, each as its own documentation uses it.

    check.py QUIPU [--node openai.mjs]

Prints a line for each thing that was tried: `ok: …` or `FAILED: …`."""

import argparse
import functools
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import traceback
import urllib.request

import calls

KEY = "a-key-of-the-test"
ASK = [{"role": "user", "content": "Tell me of the old king."}]
failed = 0


def check(name, good, seen=""):
    global failed
    failed += not good
    print(f"ok: clients: {name}" if good else f"FAILED: clients: {name} ({seen!r:.300})", flush=True)


def raises(kind, call, **expected):
    """Whether `call` raises `kind`, with these attributes."""
    try:
        result = call()
    except kind as error:
        wrong = {name: getattr(error, name, None) for name, value in expected.items() if getattr(error, name, None) != value}
        return not wrong, wrong
    except Exception as error:
        return False, error
    return False, result


class Server:
    def __init__(self, quipu):
        command = [quipu, "serve", "demo", "--port", "0", "-v", "-t", "1", "--no-tuning"]
        environment = os.environ | {"QUIPU_API_KEY": KEY}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        for line in self.process.stderr:
            if found := re.search(r"listening at (http://\S+)", line):
                self.url = found[1]
            if "ready" in line:
                return
        raise RuntimeError("the server did not start")

    def metric(self, name):
        request = urllib.request.Request(f"{self.url}/metrics", headers={"Authorization": f"Bearer {KEY}"})
        text = urllib.request.urlopen(request, timeout=10).read().decode()
        return float(re.search(rf"^llamacpp:{name} (\S+)$", text, re.M)[1])

    def is_idle(self):
        """Whether nothing is written any more, within two seconds."""
        for _ in range(100):
            if self.metric("requests_processing") == 0:
                return True
            time.sleep(0.02)
        return False

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(40)
        self.process.stderr.close()


def openai_python(server):
    import openai

    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
    check("openai: models", [model.id for model in client.models.list()] == ["demo"])
    check("openai: one model", client.models.retrieve("demo").id == "demo")

    settings = dict(model="demo", messages=ASK, max_tokens=24, temperature=0.9, seed=7)
    whole = client.chat.completions.create(**settings, logprobs=True, top_logprobs=3)
    choice = whole.choices[0]
    check("openai: chat", choice.message.content and choice.finish_reason in ("length", "stop"), whole)
    check("openai: chat's usage", whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens, whole.usage)
    told = choice.logprobs.content
    check("openai: chat's logprobs", len(told) >= 20 and all(len(t.top_logprobs) == 3 and t.logprob <= 0 for t in told), told)
    again = client.chat.completions.create(**settings)
    check("openai: the same seed writes the same", again.choices[0].message.content == choice.message.content, again)
    pieces = list(client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True}))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    check("openai: a stream is the whole", text == choice.message.content, text)
    check("openai: a stream's usage", pieces[-1].usage and pieces[-1].usage.completion_tokens == whole.usage.completion_tokens, pieces[-1])
    several = client.chat.completions.create(**settings, n=3)
    check("openai: several choices", len({choice.message.content for choice in several.choices}) == 3, several)

    text = client.completions.create(model="demo", prompt="Once upon a time", max_tokens=12, temperature=0)
    stream = client.completions.create(model="demo", prompt="Once upon a time", max_tokens=12, temperature=0, stream=True)
    check("openai: completions", text.choices[0].text == "".join(piece.choices[0].text for piece in stream), text)
    scored = client.completions.create(model="demo", prompt="Once upon a time", max_tokens=0, echo=True, logprobs=2)
    told = scored.choices[0].logprobs
    check("openai: a prompt is scored", scored.choices[0].text == "Once upon a time" == "".join(told.tokens), scored)
    check("openai: with likely values", all(value < 0 for value in told.token_logprobs if value is not None), told)

    texts = ["a king", "a miller and his cat"]
    packed = client.embeddings.create(model="demo", input=texts).data
    plain = client.embeddings.create(model="demo", input=texts, encoding_format="float").data
    near = all(math.isclose(a, b, abs_tol=1e-6) for p, q in zip(packed, plain) for a, b in zip(p.embedding, q.embedding))
    check("openai: embeddings, packed and plain", near and len(packed) == 2)
    check("openai: embeddings have length one", math.isclose(sum(x * x for x in packed[0].embedding), 1, abs_tol=1e-4))

    asked = dict(model="demo", input="Tell me of the old king.", instructions="Be brief.", max_output_tokens=12, temperature=0)
    response = client.responses.create(**asked)
    check("openai: responses", response.output_text and response.usage.output_tokens == 12, response)
    events = list(client.responses.create(**asked, stream=True))
    delta = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    check("openai: responses' stream", delta == response.output_text == events[-1].response.output_text, events[-1])
    ends = [event.type for event in (events[0], events[-1])]
    check("openai: responses' events", ends == ["response.created", "response.incomplete"], ends)
    asked = dict(model="demo", input="Tell me of the old king.", temperature=0, extra_body={"stop": ["."]})
    with client.responses.stream(**asked) as events:
        final = events.until_done().get_final_response()
    check("openai: a response that ends by itself", final.status == "completed" and final.output_text, final)

    wrong = lambda **more: lambda: client.chat.completions.create(model="demo", messages=ASK, **more)
    check("openai: a wrong value", *raises(openai.BadRequestError, wrong(temperature="hot"), param="temperature"))
    long = [{"role": "user", "content": "word " * 140000}]
    too_long = lambda: client.chat.completions.create(model="demo", messages=long)
    check("openai: a prompt that is too long", *raises(openai.BadRequestError, too_long, code="context_length_exceeded"))
    check("openai: no such model", *raises(openai.NotFoundError, lambda: client.models.retrieve("other"), code="model_not_found"))
    kept = lambda: client.responses.create(model="demo", input="x", previous_response_id="resp_1")
    check("openai: nothing is kept", *raises(openai.BadRequestError, kept, param="previous_response_id"))
    stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0)
    check("openai: a wrong key", *raises(openai.AuthenticationError, stranger.models.list))

    endless = dict(model="demo", messages=ASK, extra_body={"ignore_eos": True}, stream=True)
    stream = client.chat.completions.create(**endless)
    next(iter(stream))
    stream.close()
    check("openai: who goes ends the text", server.is_idle())


def anthropic_python(server):
    import anthropic

    client = anthropic.Anthropic(base_url=server.url, api_key=KEY, max_retries=0)
    asked = dict(model="demo", max_tokens=16, system="Be brief.", messages=ASK, extra_body={"temperature": 0})
    message = client.messages.create(**asked)
    text = message.content[0].text
    check("anthropic: messages", text and message.stop_reason in ("max_tokens", "end_turn"), message)
    with client.messages.stream(**asked) as stream:
        streamed = "".join(stream.text_stream)
        final = stream.get_final_message()
    check("anthropic: a stream is the whole", streamed == text == final.content[0].text, streamed)
    read = final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0)
    counted = client.messages.count_tokens(model="demo", system="Be brief.", messages=ASK).input_tokens
    check("anthropic: tokens are counted", counted == read, (counted, final.usage))
    stopped = client.messages.create(**(asked | {"max_tokens": 60}), stop_sequences=[text.split()[1]])
    check("anthropic: stop sequences", stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == text.split()[1], stopped)
    wrong = lambda: client.messages.create(**(asked | {"messages": []}))
    check("anthropic: a wrong request", *raises(anthropic.BadRequestError, wrong, status_code=400))
    stranger = anthropic.Anthropic(base_url=server.url, api_key="wrong", max_retries=0)
    check("anthropic: a wrong key", *raises(anthropic.AuthenticationError, lambda: stranger.messages.create(**asked)))
    with client.messages.stream(**(asked | {"max_tokens": 100000})) as stream:
        next(iter(stream.text_stream))
    check("anthropic: who goes ends the text", server.is_idle())


def ollama_python(server):
    import ollama

    client = ollama.Client(host=server.url, headers={"Authorization": f"Bearer {KEY}"})
    check("ollama: list", [model.model for model in client.list().models] == ["demo"])
    check("ollama: show", client.show("demo").modelinfo.get("general.architecture") == "llama", client.show("demo"))
    check("ollama: ps", len(client.ps().models) == 1)
    asked = dict(model="demo", messages=ASK, options={"temperature": 0, "num_predict": 16})
    whole = client.chat(**asked)
    check("ollama: chat", whole.message.content and whole.done and whole.eval_count > 0, whole)
    streamed = "".join(piece.message.content for piece in client.chat(**asked, stream=True))
    check("ollama: a stream is the whole", streamed == whole.message.content, streamed)
    written = client.generate(model="demo", prompt="Once upon a time", raw=True, options={"temperature": 0, "num_predict": 8})
    check("ollama: generate", written.response and written.done_reason == "length", written)
    vectors = client.embed(model="demo", input=["a king", "a miller"]).embeddings
    check("ollama: embed", len(vectors) == 2 and len(vectors[0]) == len(vectors[1]) > 0)
    check("ollama: no pulling unless that is allowed", *raises(ollama.ResponseError, lambda: client.pull("llama3.2"), status_code=403))
    wrong = lambda: client.chat(model="demo", messages=ASK, options={"temperature": -1})
    check("ollama: a wrong value", *raises(ollama.ResponseError, wrong, status_code=400))
    stream = client.chat(model="demo", messages=ASK, options={"num_predict": -2, "ignore_eos": True}, stream=True)
    next(stream)
    stream.close()
    check("ollama: who goes ends the text", server.is_idle())


def langchain_openai(server):
    from langchain_core.messages import HumanMessage, SystemMessage
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    there = dict(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
    chat = ChatOpenAI(model="demo", temperature=0, max_tokens=16, stream_usage=True, **there)
    messages = [SystemMessage("Be brief."), HumanMessage("Tell me of the old king.")]
    answer = chat.invoke(messages)
    check("langchain: invoke", answer.content and answer.usage_metadata["output_tokens"] > 0, answer)
    pieces = list(chat.stream(messages))
    check("langchain: stream", "".join(piece.content for piece in pieces) == answer.content, pieces)
    check("langchain: a stream's usage", any(piece.usage_metadata for piece in pieces), pieces)
    both = chat.batch(["Tell me of a king.", "Tell me of a miller."])
    check("langchain: batch", len(both) == 2 and all(answer.content for answer in both), both)
    responses = ChatOpenAI(model="demo", temperature=0, use_responses_api=True, max_tokens=16, **there)
    check("langchain: responses", bool(responses.invoke(messages).text), "")
    vectors = OpenAIEmbeddings(model="demo", check_embedding_ctx_length=False, **there).embed_documents(["a king", "a miller"])
    check("langchain: embeddings", len(vectors) == 2 and len(vectors[0]) > 0)


def litellm_python(server):
    import litellm

    litellm.suppress_debug_info = True
    there = dict(api_base=f"{server.url}/v1", api_key=KEY, num_retries=0)
    asked = dict(model="openai/demo", messages=ASK, max_tokens=16, temperature=0)
    answer = litellm.completion(**asked, **there).choices[0].message.content
    check("litellm: completion", bool(answer), answer)
    pieces = litellm.completion(**asked, **there, stream=True)
    streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    check("litellm: a stream is the whole", streamed == answer, streamed)
    claude = litellm.completion(**(asked | {"model": "anthropic/demo"}), api_base=server.url, api_key=KEY)
    check("litellm: as Anthropic", claude.choices[0].message.content == answer, claude)
    native = litellm.completion(**(asked | {"model": "ollama_chat/demo"}), api_base=server.url, api_key=KEY)
    check("litellm: as ollama", native.choices[0].message.content == answer, native)
    vectors = litellm.embedding(model="openai/demo", input=["a king"], **there).data
    check("litellm: embeddings", len(vectors) == 1)
    wrong = lambda: litellm.completion(**(asked | {"temperature": "hot"}), **there)
    check("litellm: a wrong value", *raises(litellm.BadRequestError, wrong))


def langchain_suite(server):
    """Whether langchain's own tests pass, and what they say if not."""
    suite = os.path.join(os.path.dirname(os.path.abspath(__file__)), "langchain_suite.py")
    loop = ["--asyncio-mode=auto"] + [f"--override-ini=asyncio_default_{of}_loop_scope=session" for of in ("test", "fixture")]
    command = [sys.executable, "-B", "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", *loop, suite]
    environment = os.environ | {"QUIPU_URL": server.url, "QUIPU_KEY": KEY}
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=300)
    return ended.returncode == 0, ended.stdout[-300:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("quipu")
    parser.add_argument("--node")
    given = parser.parse_args()
    os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false", "LITELLM_TELEMETRY": "False", "OPENAI_AGENTS_DISABLE_TRACING": "1"}
    server = Server(given.quipu)
    try:
        with_key = [functools.partial(client, key=KEY, check=check) for client in calls.CLIENTS]
        for client in [openai_python, anthropic_python, ollama_python, langchain_openai, litellm_python, *with_key]:
            try:
                client(server)
            except Exception:
                traceback.print_exc()
                name = getattr(client, "func", client).__name__
                check(f"{name} goes through", False, sys.exc_info()[1])
        check("langchain's own tests of a chat model", *langchain_suite(server))
        if given.node:
            environment = os.environ | {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": KEY}
            node = subprocess.run(["node", given.node], env=environment, stdout=subprocess.PIPE, text=True, timeout=60)
            for line in node.stdout.splitlines():
                told = json.loads(line)
                check(f"openai for Node: {told['name']}", told["good"], told["seen"])
            check("openai for Node goes through", node.returncode == 0, node.returncode)
            check("openai for Node: who goes ends the text", server.is_idle())
        check("the server is alive", urllib.request.urlopen(f"{server.url}/health").status == 200)
    finally:
        server.close()
    check("the server ends by itself", server.process.returncode == 0, server.process.returncode)
    return failed > 0


sys.exit(main())
