#!/usr/bin/env python3
"""Load on `quipu serve`, of every kind at once or much of one, and what becomes of its memory and its answers to health.

    load.py QUIPU [MODEL] --seconds 1200        chats, completions, embeddings, long prompts; a third of the streams is left
    load.py QUIPU [MODEL] --requests 100000     small requests over connections that stay open

Nothing but Python's own library. Ends with 1 if the server has died, if a request went wrong, or if its memory grew in
the second half by more than a twentieth and 8 MB."""

import argparse
import http.client
import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time

WORDS = "king miller river mountain cat old little girl forest mill daughter gold bread night bird stone".split()


class Load:
    def __init__(self, port, pid):
        self.port, self.pid = port, pid
        self.over, self.wrong, self.served, self.left, self.busy = threading.Event(), [], 0, 0, 0
        self.lock = threading.Lock()
        self.health = []
        self.memory = []

    def connect(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def count(self, status, left=False):
        with self.lock:
            self.served += status == 200
            self.busy += status == 503
            self.left += left
            if status not in (200, 503):
                self.wrong.append(status)

    def rss(self):
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * 4096

    def watch(self):
        """Asks for health ten times a second, and looks at the memory."""
        connection = self.connect()
        while not self.over.wait(0.1):
            begun = time.monotonic()
            connection.request("GET", "/health")
            answer = connection.getresponse()
            answer.read()
            self.health.append(time.monotonic() - begun)
            if answer.status != 200:
                self.wrong.append(f"health {answer.status}")
            self.memory.append(self.rss())

    def request(self, connection, path, body, leave=None):
        """Sends a request; with `leave` the stream is left after so many bytes. Returns the connection to go on with."""
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if leave is not None and answer.status == 200:
            answer.read(leave)
            self.count(200, left=True)
            connection.close()
            return self.connect()
        answer.read()
        self.count(answer.status)
        return connection

    def mixed(self, seed):
        rng = random.Random(seed)
        text = lambda n: " ".join(rng.choice(WORDS) for _ in range(n))
        connection = self.connect()
        while not self.over.is_set():
            stream = rng.random() < 0.6
            leave = rng.randrange(2000) if stream and rng.random() < 0.5 else None
            long = rng.random() < 0.15
            kind = rng.choice(["chat", "completion", "responses", "messages", "ollama", "embedding", "ask"])
            tokens = rng.choice([1, 8, 40, 150])
            prompt = "Once upon a time " * rng.randrange(3) + text(400 if long else rng.randrange(1, 60))
            messages = [{"role": "user", "content": prompt}]
            path, body = {
                "chat": ("/v1/chat/completions", {"messages": messages, "max_tokens": tokens, "stream": stream}),
                "completion": ("/v1/completions", {"prompt": [prompt, "A"], "n": 2, "max_tokens": tokens, "logprobs": 2, "stream": stream}),
                "responses": ("/v1/responses", {"input": prompt, "max_output_tokens": tokens, "stream": stream}),
                "messages": ("/v1/messages", {"messages": messages, "max_tokens": tokens, "stream": stream}),
                "ollama": ("/api/chat", {"model": "demo", "messages": messages, "options": {"num_predict": tokens}, "stream": stream}),
                "embedding": ("/v1/embeddings", {"input": [prompt, text(20)]}),
                "ask": ("/tokenize", {"content": prompt}),
            }[kind]
            if kind in ("embedding", "ask"):
                leave = None
            connection = self.request(connection, path, body, leave)

    def small(self, seed, count):
        connection = self.connect()
        for i in range(count):
            if self.over.is_set():
                return
            body = {"prompt": "A" if i % 2 else f"{WORDS[i % len(WORDS)]} {seed}", "max_tokens": 1 + i % 3, "seed": i}
            connection = self.request(connection, "/v1/completions", body)


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * q))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("quipu")
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--option", action="append", default=[], help="of `quipu serve`, such as --option=-t1")
    given = parser.parse_args()
    command = [given.quipu, "serve", given.model, "--port", "0", "-v", "--no-tuning", "--kv-memory", "200M", *given.option]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    port = None
    for line in server.stderr:
        if found := re.search(r"listening at http://127\.0\.0\.1:(\d+)", line):
            port = int(found[1])
        if "ready" in line:
            break
    # A full pipe would stop the server.
    threading.Thread(target=server.stderr.read, daemon=True).start()
    load = Load(port, server.pid)
    watch = threading.Thread(target=load.watch)
    watch.start()
    begun = time.monotonic()
    if given.requests:
        each = given.requests // given.clients
        clients = [threading.Thread(target=load.small, args=(i, each)) for i in range(given.clients)]
    else:
        clients = [threading.Thread(target=load.mixed, args=(i,)) for i in range(given.clients)]
    for client in clients:
        client.start()
    said = begun
    while any(client.is_alive() for client in clients):
        time.sleep(0.5)
        now = time.monotonic()
        if given.seconds and now - begun > given.seconds or server.poll() is not None:
            load.over.set()
        if now - said > 30:
            said = now
            print(f"{now - begun:6.0f} s: {load.served} served, {load.left} left, {load.busy} told to wait, "
                  f"{load.memory[-1] / 1e6:.1f} MB, health p99 {quantile(load.health, 0.99) * 1e3:.1f} ms, "
                  f"worst {max(load.health) * 1e3:.1f} ms", flush=True)
    load.over.set()
    watch.join()
    alive = server.poll() is None
    server.send_signal(signal.SIGTERM)
    server.wait(60)
    eighths = [max(load.memory[len(load.memory) * i // 8 : len(load.memory) * (i + 1) // 8] or [0]) / 1e6 for i in range(8)]
    print(f"{load.served} served, {load.left} of them left, {load.busy} told to wait, wrong: {load.wrong[:5]}; "
          f"most memory in eighths of the time, MB: {', '.join(f'{x:.1f}' for x in eighths)}")
    print(f"health of {len(load.health)}: p50 {quantile(load.health, 0.5) * 1e3:.1f} ms, p99 "
          f"{quantile(load.health, 0.99) * 1e3:.1f} ms, worst {max(load.health) * 1e3:.1f} ms")
    grew = max(eighths[4:]) > 1.05 * max(eighths[:4]) + 8
    good = alive and not load.wrong and not grew and server.returncode == 0
    print(f"{'ok' if good else 'FAILED'}: load: alive {alive}, exit code {server.returncode}, memory grew: {grew}")
    return not good


sys.exit(main())
