"""The example of a batch job for Ray Data."""

import os
import sys
import tempfile
import unittest

import ray

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "examples"))
import quipu  # noqa: E402
import ray_batch  # noqa: E402


class Batches(unittest.TestCase):
    def test_texts_do_not_depend_on_how_rows_are_divided(self):
        environment = {"PYTHONPATH": os.path.dirname(ray_batch.__file__)}
        # The actors take one each; what divides the rows takes others.
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20,
                 runtime_env={"env_vars": environment})  # fmt: skip
        self.addCleanup(ray.shutdown)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, "tales.quipu")
        quipu.convert("demo", path, packed=True)
        prompts = [f"There were {number} kings" for number in range(24)]
        found = []
        for actors, batch_size, blocks in [(2, 3, 6), (1, 24, 1)]:
            dataset = ray.data.from_items([{"prompt": prompt} for prompt in prompts]).repartition(blocks)
            rows = ray_batch.write(dataset, path, actors, batch_size).take_all()
            found.append({row["prompt"]: row["text"] for row in rows})
        self.assertEqual(found[0], found[1])
        self.assertEqual(sorted(found[0]), sorted(prompts))
        self.assertTrue(all(found[0].values()))


if __name__ == "__main__":
    unittest.main()
