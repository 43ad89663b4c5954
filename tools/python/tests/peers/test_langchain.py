"""LangChain's classes for llama-cpp-python, over `quipu.compat`."""

import sys
import unittest

import quipu.compat

sys.modules["llama_cpp"] = quipu.compat

from langchain_community.chat_models import ChatLlamaCpp  # noqa: E402
from langchain_community.embeddings import LlamaCppEmbeddings  # noqa: E402
from langchain_community.llms import LlamaCpp  # noqa: E402
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage  # noqa: E402
from pydantic import BaseModel, Field  # noqa: E402


class Age(BaseModel):
    """Tells an age."""

    years: int = Field(ge=0, le=9)


MESSAGES = [SystemMessage("Be brief."), HumanMessage("How old is the fox?")]


class Chats(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Where it streams by itself, it forgets about `stop`.
        options = dict(n_ctx=1024, max_tokens=12, seed=3, temperature=0.5, verbose=False)
        cls.chat = ChatLlamaCpp(model_path="demo", streaming=False, **options)

    def test_an_answer_and_its_stream(self):
        answer = self.chat.invoke(MESSAGES)
        self.assertIsInstance(answer, AIMessage)
        self.assertEqual(answer.response_metadata["finish_reason"], "length")
        self.assertTrue(answer.content)
        self.assertEqual("".join(chunk.content for chunk in self.chat.stream(MESSAGES)), answer.content)
        stopped = self.chat.invoke(MESSAGES, stop=[answer.content[5:8]])
        self.assertTrue(answer.content.startswith(stopped.content) and len(stopped.content) <= 5)

    def test_tools(self):
        choice = {"type": "function", "function": {"name": "Age"}}
        chat = self.chat.bind_tools([Age], tool_choice=choice)
        answer = chat.invoke(MESSAGES, max_tokens=100)
        (call,) = answer.tool_calls
        self.assertEqual((call["name"], list(call["args"])), ("Age", ["years"]))
        again = self.chat.invoke([*MESSAGES, answer, ToolMessage("7", tool_call_id=call["id"])])
        self.assertTrue(again.content)
        whole = None
        for chunk in chat.stream(MESSAGES, max_tokens=100):
            whole = chunk if whole is None else whole + chunk
        self.assertEqual(whole.tool_calls[0]["args"], call["args"])

    def test_structured_output(self):
        chat = ChatLlamaCpp(model_path="demo", n_ctx=1024, max_tokens=100, seed=3, verbose=False)
        found = chat.with_structured_output(Age).invoke(MESSAGES)
        self.assertIn(found.years, range(10))


class Others(unittest.TestCase):
    def test_a_plain_model(self):
        llm = LlamaCpp(model_path="demo", max_tokens=12, seed=3, verbose=False)
        text = llm.invoke("Once upon a time")
        self.assertTrue(text)
        self.assertEqual("".join(llm.stream("Once upon a time")), text)
        self.assertGreater(llm.get_num_tokens("Once upon a time"), 3)

    def test_vectors(self):
        embeddings = LlamaCppEmbeddings(model_path="demo", verbose=False)
        rows = embeddings.embed_documents(["a king", "a queen"])
        self.assertEqual(len(rows), 2)
        self.assertEqual(embeddings.embed_query("a queen"), rows[1])


if __name__ == "__main__":
    unittest.main()
