"""The asynchronous twins."""

import asyncio
import unittest

import quipu

PROMPT = "Once upon a time"


class Twins(unittest.IsolatedAsyncioTestCase):
    async def test_they_write_the_same(self):
        model = quipu.Model("demo")
        whole = str(model.generate(PROMPT, seed=1, max_tokens=12))
        self.assertEqual(str(await model.agenerate(PROMPT, seed=1, max_tokens=12)), whole)
        several = await asyncio.gather(*(model.agenerate(PROMPT, seed=1, max_tokens=12) for _ in range(20)))
        self.assertEqual([str(one) for one in several], [whole] * 20)
        stream = model.astream(PROMPT, seed=1, max_tokens=12)
        self.assertEqual("".join([str(piece) async for piece in stream]), whole)
        self.assertEqual(str(await stream.answer()), whole)

    async def test_a_task_that_is_cancelled_ends_its_text(self):
        model = quipu.Model("demo", parallel=1)
        task = asyncio.create_task(model.agenerate(PROMPT, max_tokens=None, ignore_eos=True))
        await asyncio.sleep(0.1)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        # With one at a time, this would wait for the other's end.
        answer = await asyncio.wait_for(model.agenerate(PROMPT, max_tokens=3), 30)
        self.assertEqual(len(answer.tokens), 3)


if __name__ == "__main__":
    unittest.main()
