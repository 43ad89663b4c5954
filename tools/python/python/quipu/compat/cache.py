"""llama-cpp-python's caches of prompts. What was read is always kept here, as long as there is memory for it."""

from __future__ import annotations


class LlamaRAMCache:
    """Does nothing."""

    def __init__(self, capacity_bytes: int = 2 << 30) -> None:
        self.capacity_bytes = capacity_bytes


class LlamaDiskCache(LlamaRAMCache):
    """Does nothing."""

    def __init__(self, cache_dir: str = ".cache/llama_cache", capacity_bytes: int = 2 << 30) -> None:
        super().__init__(capacity_bytes)
        self.cache_dir = cache_dir


LlamaCache = LlamaRAMCache
