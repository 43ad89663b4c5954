"""Logits, vectors, perplexity, files."""

import os
import tempfile
import unittest

import quipu

try:
    import numpy
except ImportError:
    numpy = None

PROMPT = "Once upon a time"


@unittest.skipUnless(numpy, "no numpy")
class Arrays(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = quipu.Model("demo")

    def test_an_array_shares_the_memory_of_the_result(self):
        native = self.model._native.logits(PROMPT, True, False)
        array = numpy.asarray(native)
        self.assertEqual(array.__array_interface__["data"][0], native.__array_interface__["data"][0])
        self.assertEqual((array.dtype, list(array.shape)), (numpy.float32, native.shape))
        self.assertFalse(array.flags.writeable)
        expected = native.row_list(0)
        del native
        # The array keeps what it looks at.
        self.assertEqual(array[0].tolist(), expected)

    def test_logits_are_those_that_probabilities_come_from(self):
        rows = self.model.logits(PROMPT, all=True)
        tokens = self.model.encode(PROMPT)
        self.assertEqual(rows.shape, (len(tokens), self.model.vocabulary))
        self.assertTrue((self.model.logits(PROMPT) == rows[-1]).all())
        rows = rows.astype(numpy.float64)
        norm = numpy.log(numpy.exp(rows - rows.max(axis=1, keepdims=True)).sum(axis=1)) + rows.max(axis=1)
        scored = self.model.score(PROMPT)
        for i, token in enumerate(scored.tokens[1:]):
            self.assertAlmostEqual(token.logprob, rows[i][token.id] - norm[i], places=5)
        greedy = self.model.generate(PROMPT, temp=0, max_tokens=1).tokens[0].id
        self.assertEqual(greedy, int(rows[-1].argmax()))

    def test_long_prompts_are_read_in_batches(self):
        tokens = (self.model.encode("The king had three sons. ") * 100)[:700]
        whole = self.model.logits(tokens)
        self.assertTrue((whole == self.model.logits(tokens, all=True)[-1]).all())

    def test_vectors(self):
        texts = ["a king", "a queen", "an old donkey"]
        rows = self.model.embed(texts)
        self.assertEqual(rows.shape, (3, self.model.hidden))
        self.assertTrue((self.model.embed(texts[1]) == rows[1]).all())
        self.assertTrue(numpy.allclose((rows**2).sum(axis=1), 1, atol=1e-5))
        with self.assertRaisesRegex(quipu.Error, "mean or last"):
            self.model.embed("x", pooling="first")


class Measures(unittest.TestCase):
    def test_perplexity(self):
        text = "Once upon a time there was a king who had three sons, and the youngest was called Simpleton. " * 4
        found = quipu.Model("demo", context=64).perplexity(text, context=16)
        self.assertTrue(1 < found.ppl < 100 and found.chunks >= 4)
        with self.assertRaisesRegex(quipu.Error, "token"):
            quipu.Model("demo").perplexity("Too short.")


class Files(unittest.TestCase):
    def test_a_model_is_written_and_runs(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "tales-q4_0.gguf")
            # The demo is quantised already, of which one is warned.
            with self.assertWarnsRegex(UserWarning, "requantised"):
                written = quipu.quantize("demo", path, "q4_0", calibrate="none", tensors={"attn_v": "q8_0"})
            self.assertEqual((written.files, written.bytes), ([path], os.path.getsize(path)))
            self.assertIn("Q8_0", dict(written.types))
            packed = os.path.join(directory, "tales.quipu")
            quipu.convert(path, packed, packed=True)
            texts = [str(quipu.Model(file).generate(PROMPT, seed=1, max_tokens=9)) for file in (path, packed)]
            self.assertEqual(texts[0], texts[1])
            for options, sentence in [(dict(type="q9"), "no type q9"), (dict(calibrate="luck"), "calibrate must be")]:
                with self.assertRaisesRegex(quipu.Error, sentence):
                    quipu.quantize("demo", os.path.join(directory, "x.gguf"), **options)
            with self.assertRaisesRegex(quipu.Error, "tales-q4_0"):
                quipu.quantize(path, path, "q8_0")


if __name__ == "__main__":
    unittest.main()
