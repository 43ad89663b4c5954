"""Texts, streams, the tokenizer, errors."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import unittest

import quipu

PROMPT = "Once upon a time"


class Texts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = quipu.Model("demo")

    def test_the_same_seed_gives_the_same_text_alone_and_among_others(self):
        prompts = [PROMPT, "There was a king", "The fox", PROMPT]
        seeds = [1, 2, 3, 4]
        together = self.model.generate(prompts, max_tokens=24, seed=seeds)
        for prompt, seed, answer in zip(prompts, seeds, together):
            alone = self.model.generate(prompt, max_tokens=24, seed=seed)
            self.assertEqual((str(answer), answer.seed, answer.stop), (str(alone), seed, "limit"))
        self.assertNotEqual(str(together[0]), str(together[3]))

    def test_pieces_are_the_text(self):
        for prompt in (PROMPT, [PROMPT, "The fox"]):
            stream = self.model.stream(prompt, max_tokens=20, seed=1)
            texts = {}
            for piece in stream:
                texts[piece.index] = texts.get(piece.index, "") + str(piece)
            self.assertEqual(list(map(str, stream.answers)), [texts[i] for i in range(len(texts))])

    def test_tokens_are_a_prompt_too(self):
        tokens = self.model.encode(PROMPT)
        self.assertEqual(tokens[0], self.model.bos)
        one, other = self.model.generate(tokens, seed=1, max_tokens=9), self.model.generate(PROMPT, seed=1, max_tokens=9)
        self.assertEqual(str(one), str(other))
        self.assertEqual(one.prompt_tokens, len(tokens))

    def test_stop_strings_and_bans(self):
        whole = str(self.model.generate(PROMPT, temp=0, max_tokens=40))
        word = whole.split()[3]
        stopped = self.model.generate(PROMPT, temp=0, max_tokens=40, stop=word)
        self.assertEqual((stopped.stop, stopped.stop_string), ("stop", word))
        self.assertEqual(str(stopped), whole[: whole.index(word)])
        self.assertNotIn(word, str(self.model.generate(PROMPT, temp=0, max_tokens=40, ban=[word])))

    def test_answers_keep_to_their_shape(self):
        import json
        import re

        schema = {"type": "object", "properties": {"age": {"type": "integer", "maximum": 99}}, "required": ["age"],
                  "additionalProperties": False}  # fmt: skip
        found = json.loads(str(self.model.generate("A miller had a son of", schema=schema, max_tokens=200, seed=1)))
        self.assertLessEqual(found["age"], 99)
        self.assertTrue(re.fullmatch(" [0-9]{2}", str(self.model.generate("He was", regex=" [0-9]{2}"))))
        self.assertIn(str(self.model.generate("He was", choices=[" old", " young"])), [" old", " young"])
        self.assertEqual(str(self.model.generate("He was", grammar='root ::= " tired"')), " tired")
        with self.assertRaisesRegex(quipu.Error, "#/items/uniqueItems"):
            self.model.generate("x", schema={"items": {"type": "array", "uniqueItems": True}})
        with self.assertRaisesRegex(TypeError, "cannot be asked for together"):
            self.model.generate("x", regex="a", grammar='root ::= "a"')

    def test_probabilities(self):
        answer = self.model.generate(PROMPT, temp=0, max_tokens=5, logprobs=True, top=3)
        for token in answer.tokens:
            self.assertEqual(token.top[0], (token.id, token.logprob))
            self.assertEqual(len(token.top), 3)
        scored = self.model.score(PROMPT, top=2)
        self.assertEqual([token.id for token in scored.tokens], self.model.encode(PROMPT))
        self.assertIsNone(scored.tokens[0].logprob)
        self.assertEqual(scored.total, sum(token.logprob for token in scored.tokens[1:]))

    def test_what_is_wrong_is_told(self):
        cases = [
            (dict(temp=-1.0), quipu.Error, "temperature is -1, but must be 0 \\(greedy\\) or more"),
            (dict(temp="hot"), TypeError, "temp must be a number, not str"),
            (dict(warmth=1), TypeError, "no option warmth"),
            (dict(seed=[1, 2]), TypeError, "2 seeds for 1 prompts"),
            (dict(tools=[]), TypeError, "tools is for chats"),
        ]
        for options, kind, sentence in cases:
            with self.assertRaisesRegex(kind, sentence):
                self.model.generate(PROMPT, **options)
        with self.assertRaisesRegex(quipu.Error, "the prompt has [0-9]+ tokens, but the context holds only"):
            quipu.Model("demo", context=64).generate("word " * 100)
        with self.assertRaisesRegex(quipu.Error, "^prompt 1: token 99999999 "):
            self.model.generate([[1], [99999999]])
        with self.assertRaisesRegex(quipu.Error, "no/such/file"):
            quipu.Model("no/such/file.gguf")
        with self.assertRaisesRegex(TypeError, "not bytes"):
            self.model.generate(b"x")
        self.assertTrue(issubclass(quipu.Error, ValueError))

    def test_the_tokenizer(self):
        text = "The king's ärmel — 日本"
        self.assertEqual(self.model.decode(self.model.encode(text)), text)
        self.assertEqual(self.model.decode_bytes(self.model.encode(text)).decode().strip(), text)
        self.assertIn(self.model.eos, self.model.ends)

    def test_a_model_is_pickled_by_its_path(self):
        other = pickle.loads(pickle.dumps(self.model))
        self.assertEqual(str(other.generate(PROMPT, seed=3, max_tokens=9)), str(self.model.generate(PROMPT, seed=3, max_tokens=9)))
        answer = self.model.generate(PROMPT, max_tokens=3)
        self.assertEqual(pickle.loads(pickle.dumps(answer)), answer)

    def test_a_closed_model_says_so(self):
        with quipu.Model("demo") as model:
            running = model.stream(PROMPT, max_tokens=5, seed=1)
        # What was asked for before is written to its end.
        self.assertEqual(len(running.answer.tokens), 5)
        with self.assertRaisesRegex(quipu.Error, "closed"):
            model.generate(PROMPT)

    def test_chats(self):
        template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
        model = quipu.Model("demo", chat_template=template)
        chat = [{"role": "user", "content": "Tell me a tale."}]
        self.assertEqual(model.render(chat), "user: Tell me a tale.\nassistant:")
        answer = model.generate(chat, seed=1, max_tokens=12)
        text = model.generate("user: Tell me a tale.\nassistant:", seed=1, max_tokens=12)
        self.assertEqual(str(answer), str(text))
        self.assertEqual(answer.message, {"role": "assistant", "content": str(answer)})
        several = model.generate([chat, chat], seed=1, max_tokens=12)
        self.assertEqual([str(one) for one in several], [str(answer)] * 2)
        with self.assertRaisesRegex(quipu.Error, r"messages\[0\].role"):
            model.generate([{"role": "witch", "content": "x"}])

    def test_tools(self):
        template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ tools }}assistant:"
        model = quipu.Model("demo", chat_template=template)
        tool = {"type": "function", "function": {"name": "age", "parameters": {
            "type": "object", "properties": {"years": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["years"], "additionalProperties": False}}}  # fmt: skip
        chat = [{"role": "user", "content": "How old?"}]
        stream = model.stream(chat, tools=[tool], tool_choice="required", seed=1, max_tokens=200, parallel_tool_calls=False)
        written = "".join(more for piece in stream for _, _, _, more in piece.calls)
        (call,) = stream.answer.calls
        self.assertEqual((call.name, call.arguments), ("age", written))
        self.assertIn(call.args["years"], range(10))
        self.assertEqual(stream.answer.message["tool_calls"][0]["function"]["name"], "age")
        self.assertTrue(call.complete)
        options = {"tools": [tool], "tool_choice": "required", "seed": 1, "max_tokens": 200, "parallel_tool_calls": False}
        (half,) = model.generate(chat, stop="years", **options).calls
        self.assertEqual((half.name, half.complete), ("age", False))


class Together(unittest.TestCase):
    def test_threads_neither_crash_nor_wait_for_each_other(self):
        model = quipu.Model("demo")
        expected = {seed: str(model.generate(PROMPT, seed=seed, max_tokens=150)) for seed in (1, 2)}
        order, found = [], {}

        def write(seed):
            text = ""
            for piece in model.stream(PROMPT, seed=seed, max_tokens=150):
                order.append(seed)
                text += str(piece)
            found[seed] = text

        threads = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(found, expected)
        # Each has written something before the other was done.
        self.assertLess(order.index(2), 150)
        self.assertLess(order.index(1), 150)

    def test_python_goes_on_while_the_model_works(self):
        model = quipu.Model("demo", threads=1)
        done = threading.Event()
        thread = threading.Thread(target=lambda: (model.generate([PROMPT] * 16, max_tokens=100, seed=1), done.set()))
        thread.start()
        counted = 0
        while not done.is_set():
            counted += 1
            time.sleep(0.001)
        thread.join()
        self.assertGreater(counted, 5)

    def test_a_stream_that_nobody_reads_ends(self):
        model = quipu.Model("demo")
        stream = model.stream(PROMPT, max_tokens=None, ignore_eos=True, seed=1)
        next(stream)
        stream.close()
        self.assertEqual(stream.answer.stop, "cancelled")

    @unittest.skipIf(sys.platform == "win32", "signals are another thing there")
    def test_ctrl_c_is_heard_between_two_tokens(self):
        script = (
            "import quipu, sys, time\n"
            "model = quipu.Model('demo')\n"
            "print('ready', flush=True)\n"
            "try:\n"
            "    while True: model.generate(['Once upon a time'] * 4, max_tokens=400, ignore_eos=True)\n"
            "except KeyboardInterrupt:\n"
            "    print('interrupted', flush=True)\n"
            "    print(len(model.generate('Once', max_tokens=3, ignore_eos=True).tokens))\n"
        )
        # A script that starts this in the background may have Ctrl-C ignored.
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True,
                                 preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))  # fmt: skip
        self.assertEqual(child.stdout.readline(), "ready\n")
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=60)
        self.assertEqual((out, child.returncode), ("interrupted\n3\n", 0))

    @unittest.skipUnless(hasattr(os, "fork"), "there are no forks here")
    def test_a_fork_is_told_that_it_has_no_threads(self):
        script = (
            "import os, quipu\n"
            "model = quipu.Model('demo')\n"
            "pid = os.fork()\n"
            "if pid == 0:\n"
            "    try: model.generate('x')\n"
            "    except quipu.Error as error: os._exit(3 if 'fork' in str(error) else 4)\n"
            "    os._exit(5)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        )
        out = subprocess.run([sys.executable, "-W", "ignore", "-c", script], stdout=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual(out.stdout, "3\n")


if __name__ == "__main__":
    unittest.main()
