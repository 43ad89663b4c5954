"""What a model has written. All of it is plain data: it can be pickled, compared and printed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple


@dataclass(frozen=True)
class Token:
    """One token of a text.

    `logprob` is the natural logarithm of its probability under the model, if that was asked for (`logprobs=True`), and
    `top` are the likeliest tokens in its place with theirs (`top=5`), the likeliest first.
    """

    id: int
    #: The text that became certain with it; less than its own while a character or a stop string may be incomplete.
    text: str
    logprob: Optional[float] = None
    top: List[Tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    """The call of a tool. `arguments` is the text of a JSON object, if the call is complete; `args` is that object."""

    id: str
    name: str
    arguments: str
    #: Whether it was written to its end. What a limit or a stop string has cut is nothing to run.
    complete: bool = True

    @property
    def args(self) -> Dict[str, Any]:
        args: Dict[str, Any] = json.loads(self.arguments)
        return args


@dataclass(frozen=True)
class Piece:
    """Something new of a text that is being written: `str(piece)` is what it says.

    `index` tells which of several prompts it belongs to. `id` is the token that brought it; there is none where text
    was held back until the end.
    """

    index: int
    text: str
    #: More of what the model thinks before it answers.
    thought: str = ""
    #: More of calls of tools: the call's number, its id and name at its beginning, then pieces of its arguments.
    calls: List[Tuple[int, str, str, str]] = field(default_factory=list)
    id: Optional[int] = None
    logprob: Optional[float] = None
    top: List[Tuple[int, float]] = field(default_factory=list)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Answer:
    """A text that a model has written: `str(answer)` is what it says.

    `stop` says why it ended: `end` (the model), `stop` (a stop string, which is `stop_string`), `limit` (`max_tokens`),
    `context` (the context is full) or `cancelled`.
    """

    text: str
    thought: str
    calls: List[Call]
    stop: str
    stop_string: Optional[str]
    #: With which the same prompt and options give the same text again, on every machine.
    seed: int
    #: The tokens that were written.
    tokens: List[Token]
    #: The tokens of the prompt with their probabilities, with `prompt_logprobs=True`.
    prompt: List[Token]
    prompt_tokens: int
    #: Those of them that need not be read, since an earlier text began with them.
    cached_tokens: int
    prefill_seconds: float
    decode_seconds: float

    def __str__(self) -> str:
        return self.text

    @property
    def message(self) -> Dict[str, Any]:
        """The answer as a message, to be put behind the chat that it answers."""
        message: Dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.calls
            ]
        return message

    @classmethod
    def _of(cls, native: Dict[str, Any]) -> Answer:
        native["calls"] = [Call(*call) for call in native["calls"]]
        native["tokens"] = [Token(*token) for token in native["tokens"]]
        native["prompt"] = [Token(*token) for token in native["prompt"]]
        return cls(**native)


@dataclass(frozen=True)
class Scored:
    """How likely a text is: `total` is the sum of the logprobs of all its tokens but the first."""

    tokens: List[Token]
    total: float
