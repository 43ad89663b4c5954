"""llama-cpp-python's names and dicts over `quipu.Model`: a program that imports `Llama` from `llama_cpp` runs with

    from quipu.compat import Llama

and one that cannot be changed with

    import sys, quipu.compat
    sys.modules["llama_cpp"] = quipu.compat

A second request neither interrupts the first nor waits for its end. What is different: sampling takes Quipu's steps,
which are llama.cpp's; a model's own chat template goes before `chat_format`; vectors are one for each text. What cannot
be done is refused by name: images, speculative draft models, logits processors, saved states.
"""

from . import llama_chat_format
from .cache import LlamaCache, LlamaDiskCache, LlamaRAMCache
from .grammar import LlamaGrammar
from .llama import Llama

__all__ = ["Llama", "LlamaCache", "LlamaDiskCache", "LlamaGrammar", "LlamaRAMCache", "llama_chat_format"]
