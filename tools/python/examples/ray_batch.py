"""A batch job for Ray Data: rows with a prompt become rows with a text, written by a pool of models.

    python examples/ray_batch.py llama.quipu prompts.jsonl texts.jsonl

Each actor opens the model with as many threads as it was given CPUs; of a packed file (`quipu pack`) all of them share
the pages. Leave a CPU to what reads the rows, or the job waits for ever. The seed of a row comes from what the row
says, so its text is the same however rows are divided among actors, and when a block is done again after a failure.
"""

import sys
import zlib

import quipu

CPUS = 1


class Writer:
    """An actor: a model that continues batches of prompts."""

    def __init__(self, path: str, threads: int) -> None:
        self.model = quipu.Model(path, threads=threads)

    def __call__(self, batch):
        prompts = [str(prompt) for prompt in batch["prompt"]]
        seeds = [zlib.crc32(prompt.encode()) for prompt in prompts]
        answers = self.model.generate(prompts, seed=seeds, max_tokens=32)
        return {**batch, "text": [str(answer) for answer in answers]}


def write(dataset, path: str, actors: int = 2, batch_size: int = 32):
    """The dataset with a column `text` behind its column `prompt`."""
    import ray

    return dataset.map_batches(
        Writer,
        fn_constructor_args=(path, CPUS),
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=CPUS,
        batch_size=batch_size,
    )


if __name__ == "__main__":
    import ray

    model, prompts, texts = sys.argv[1:]
    write(ray.data.read_json(prompts), model).write_json(texts)
