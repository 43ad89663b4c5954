"""llama-cpp-python's grammars."""

from __future__ import annotations

import os
from typing import Any, Dict, Union


class LlamaGrammar:
    """What an answer is to be."""

    def __init__(self, options: Dict[str, Any]) -> None:
        self.options = options

    @classmethod
    def from_string(cls, grammar: str, verbose: bool = True) -> LlamaGrammar:
        """A grammar in GBNF."""
        return cls({"grammar": grammar})

    @classmethod
    def from_file(cls, file: Union[str, os.PathLike[str]], verbose: bool = True) -> LlamaGrammar:
        """A file with a grammar in GBNF."""
        with open(file, encoding="utf-8") as opened:
            return cls.from_string(opened.read())

    @classmethod
    def from_json_schema(cls, json_schema: str, verbose: bool = True) -> LlamaGrammar:
        """JSON that is valid against a schema, which is enforced exactly or refused."""
        return cls({"schema": json_schema})
