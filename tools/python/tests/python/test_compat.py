"""llama-cpp-python's names and dicts."""

import json
import pickle
import unittest

from quipu.compat import Llama, LlamaCache, LlamaGrammar

PROMPT = "Once upon a time"


class Completions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.llm = Llama("demo", n_ctx=256, n_gpu_layers=-1, verbose=False, seed=7)

    def test_a_completion(self):
        told = self.llm(PROMPT, max_tokens=8)
        self.assertEqual(set(told), {"id", "object", "created", "model", "choices", "usage"})
        self.assertEqual((told["object"], told["model"]), ("text_completion", "demo"))
        (choice,) = told["choices"]
        self.assertEqual((choice["index"], choice["logprobs"], choice["finish_reason"]), (0, None, "length"))
        self.assertEqual(choice["text"], str(self.llm.model.generate(PROMPT, max_tokens=8, seed=7)))
        prompt = len(self.llm.tokenize(PROMPT.encode()))
        usage = {"prompt_tokens": prompt, "completion_tokens": 8, "total_tokens": prompt + 8}
        self.assertEqual(told["usage"], usage)
        self.assertEqual(self.llm.create_completion(PROMPT, max_tokens=8)["choices"], told["choices"])
        # 16 tokens where nobody says otherwise.
        self.assertEqual(self.llm(PROMPT)["usage"]["completion_tokens"], 16)

    def test_chunks_are_the_text(self):
        whole = self.llm(PROMPT, max_tokens=20, echo=True)["choices"][0]
        chunks = list(self.llm(PROMPT, max_tokens=20, echo=True, stream=True))
        self.assertEqual("".join(chunk["choices"][0]["text"] for chunk in chunks), whole["text"])
        self.assertTrue(whole["text"].startswith(PROMPT))
        self.assertEqual([chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"][0]["finish_reason"]], ["length"])
        self.assertEqual(len({chunk["id"] for chunk in chunks}), 1)

    def test_stop_and_probabilities(self):
        whole = self.llm(PROMPT, max_tokens=30, temperature=0)["choices"][0]["text"]
        word = whole.split()[2]
        stopped = self.llm(PROMPT, max_tokens=30, temperature=0, stop=[word], logprobs=2)["choices"][0]
        self.assertEqual((stopped["text"], stopped["finish_reason"]), (whole[: whole.index(word)], "stop"))
        told = stopped["logprobs"]
        self.assertEqual(told["text_offset"][0], len(PROMPT))
        self.assertTrue(all(len(top) == 2 and token in top for token, top in zip(told["tokens"], told["top_logprobs"])))
        echoed = self.llm(PROMPT, max_tokens=1, temperature=0, logprobs=1, echo=True)["choices"][0]["logprobs"]
        self.assertEqual((echoed["token_logprobs"][0], echoed["top_logprobs"][0]), (None, None))
        self.assertEqual(len(echoed["tokens"]), len(self.llm.tokenize(PROMPT.encode())) + 1)

    def test_grammars(self):
        text = self.llm("It was", grammar=LlamaGrammar.from_string('root ::= " cold" | " hot"'))["choices"][0]["text"]
        self.assertIn(text, [" cold", " hot"])
        schema = json.dumps({"type": "object", "properties": {"x": {"const": 5}}, "required": ["x"], "additionalProperties": False})
        text = self.llm("It was", max_tokens=0, grammar=LlamaGrammar.from_json_schema(schema))["choices"][0]["text"]
        self.assertEqual(json.loads(text), {"x": 5})

    def test_tokens(self):
        tokens = self.llm.tokenize(PROMPT.encode())
        self.assertEqual(tokens[0], self.llm.token_bos())
        self.assertEqual(self.llm.detokenize(tokens), PROMPT.encode())
        self.assertEqual(self.llm.tokenize(PROMPT.encode(), add_bos=False), tokens[1:])
        self.assertEqual((self.llm.n_ctx(), self.llm.n_vocab()), (256, self.llm.model.vocabulary))
        first = next(self.llm.generate(tokens, temp=0.0))
        self.assertEqual(first, self.llm.model.generate(PROMPT, temp=0, max_tokens=1).tokens[0].id)

    def test_vectors(self):
        told = self.llm.create_embedding(["a king", "a queen"])
        self.assertEqual([one["index"] for one in told["data"]], [0, 1])
        self.assertEqual(len(told["data"][0]["embedding"]), self.llm.n_embd())
        self.assertEqual(self.llm.embed("a queen"), told["data"][1]["embedding"])

    def test_what_cannot_be_done_is_refused_by_name(self):
        self.llm.set_cache(LlamaCache())
        for call in (
            lambda: self.llm(PROMPT, suffix="x"),
            lambda: self.llm(PROMPT, logits_processor=[1]),
            lambda: self.llm.save_state(),
            lambda: Llama("demo", lora_path="x.gguf"),
        ):
            self.assertRaises(NotImplementedError, call)
        self.assertRaises(TypeError, Llama, "demo", n_ctxx=5)
        self.assertRaises(ValueError, Llama, "no/such.gguf")

    def test_it_is_pickled_by_its_path(self):
        other = pickle.loads(pickle.dumps(self.llm))
        self.assertEqual(other(PROMPT)["choices"], self.llm(PROMPT)["choices"])


class Chats(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.llm = Llama("demo", n_ctx=0, chat_format="chatml", seed=3)
        cls.messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A tale?"}]

    def test_an_answer(self):
        told = self.llm.create_chat_completion(self.messages, max_tokens=9, logprobs=True, top_logprobs=2)
        (choice,) = told["choices"]
        self.assertEqual((told["object"], choice["message"]["role"]), ("chat.completion", "assistant"))
        self.assertEqual([len(token["top_logprobs"]) for token in choice["logprobs"]["content"]], [2] * 9)
        chunks = list(self.llm.create_chat_completion(self.messages, max_tokens=9, stream=True))
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        self.assertEqual((deltas[0], deltas[-1]), ({"role": "assistant"}, {}))
        self.assertEqual("".join(delta.get("content", "") for delta in deltas), choice["message"]["content"])
        self.assertEqual(chunks[-1]["choices"][0]["finish_reason"], "length")
        self.assertEqual(chunks[0]["object"], "chat.completion.chunk")

    def test_formats_and_tools(self):
        told = self.llm.create_chat_completion(self.messages, response_format={"type": "json_object"}, max_tokens=300)
        if told["choices"][0]["finish_reason"] == "stop":
            json.loads(told["choices"][0]["message"]["content"])
        function = {"name": "say", "parameters": {"type": "object", "properties": {"x": {"const": 1}}, "required": ["x"],
                    "additionalProperties": False}}  # fmt: skip
        tool, choice = {"type": "function", "function": function}, {"type": "function", "function": {"name": "say"}}
        told = self.llm.create_chat_completion(self.messages, tools=[tool], tool_choice=choice, max_tokens=100)
        (call,) = told["choices"][0]["message"]["tool_calls"]
        self.assertEqual((call["function"]["name"], json.loads(call["function"]["arguments"])), ("say", {"x": 1}))
        self.assertEqual(told["choices"][0]["finish_reason"], "tool_calls")
        cut = self.llm.create_chat_completion(self.messages, tools=[tool], tool_choice=choice, max_tokens=100, stop=["x"])
        self.assertEqual(cut["choices"][0]["finish_reason"], "stop", cut)
        chunks = self.llm.create_chat_completion(self.messages, tools=[tool], tool_choice=choice, max_tokens=100, stream=True)
        calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
        self.assertEqual(json.loads("".join(call["function"]["arguments"] for call in calls)), {"x": 1})
        self.assertEqual((calls[0]["function"]["name"], calls[0]["index"]), ("say", 0))
        told = self.llm.create_chat_completion(self.messages, functions=[function], function_call={"name": "say"})
        self.assertEqual(told["choices"][0]["message"]["function_call"]["name"], "say")


if __name__ == "__main__":
    unittest.main()
