"""llm-gguf, the plugin of Simon Willison's `llm` for llama-cpp-python, over `quipu.compat`."""

import sys
import unittest

import quipu.compat

sys.modules["llama_cpp"] = quipu.compat

import llm_gguf  # noqa: E402


class Models(unittest.TestCase):
    def test_a_conversation(self):
        model = llm_gguf.GgufChatModel("gguf/demo", "demo", n_ctx=512)
        conversation = model.conversation()
        # It sets no limit and no seed, and the demo's tales rarely find another end than the context's.
        for question in ("Who is there?", "And who else?"):
            try:
                self.assertTrue(conversation.prompt(question, system="Be brief.", stream=True).text())
            except quipu.Error as error:
                self.assertRegex(str(error), "the context holds only 512")
                self.assertTrue(conversation.responses)

    def test_vectors(self):
        model = llm_gguf.GgufEmbeddingModel("gguf/demo", "demo")
        rows = list(model.embed_multi(["a king", "a queen"]))
        self.assertEqual((len(rows), rows[1]), (2, model.embed("a queen")))


if __name__ == "__main__":
    unittest.main()
