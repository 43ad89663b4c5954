"""Prompts of all kinds: a text, tokens, a chat; one, or a list of them."""

from __future__ import annotations

import json
import operator
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

#: The messages of a chat, in OpenAI's form.
Chat = Sequence[Mapping[str, Any]]
#: A text, the ids of tokens, or a chat.
Prompt = Union[str, Sequence[int], Chat]
#: What the native module takes: a text, tokens, or a chat as JSON in a tuple.
Native = Union[str, List[int], Tuple[str]]


def is_one(prompts: Union[Prompt, Sequence[Prompt]]) -> bool:
    """Whether it is one prompt, and not a list of them."""
    if isinstance(prompts, str):
        return True
    if isinstance(prompts, bytes):
        raise TypeError("a prompt must be a str, not bytes")
    if not hasattr(prompts, "__getitem__"):
        raise TypeError(f"prompts must be a text or a list, not {type(prompts).__name__}")
    return len(prompts) > 0 and (isinstance(prompts[0], Mapping) or _is_id(prompts[0]))


def native(prompt: Prompt, chat: Dict[str, Any]) -> Native:
    """A prompt for the native module; `chat` goes with it if it is a chat."""
    if isinstance(prompt, str):
        return prompt
    items = list(prompt)
    if items and isinstance(items[0], Mapping):
        return (json.dumps({"messages": items, **chat}),)
    if not all(_is_id(item) for item in items):
        raise TypeError("a prompt must be a text, a list of token ids, or a list of messages")
    return [operator.index(item) for item in items]  # type: ignore[arg-type]


def _is_id(item: object) -> bool:
    # numpy's numbers are no ints, but can stand for one.
    return hasattr(item, "__index__")
