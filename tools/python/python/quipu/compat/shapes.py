"""The dicts of llama-cpp-python, which are OpenAI's."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Sequence

if TYPE_CHECKING:
    from ..answer import Answer, Piece, Token
    from ..model import Model

Json = Dict[str, Any]


def head(kind: str, prefix: str, model: str) -> Json:
    """What all answers begin with."""
    return {"id": f"{prefix}-{uuid.uuid4()}", "object": kind, "created": int(time.time()), "model": model}


def finish_reason(answer: Answer) -> str:
    """Why a text has ended."""
    return "stop" if answer.stop in ("end", "stop") else "length"


def usage(answer: Answer) -> Json:
    """How much was read and written."""
    prompt, written = answer.prompt_tokens, len(answer.tokens)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def spelled(model: Model, token: int) -> str:
    """A token as text; bytes that are no character by themselves as replacement characters."""
    return model.decode_bytes([token], special=True).decode("utf-8", errors="replace")


def completion_logprobs(model: Model, tokens: Sequence[Token], offset: int) -> Json:
    """The probabilities of a plain completion, whose first token stands at `offset`."""
    told: Dict[str, List[Any]] = {"tokens": [], "text_offset": [], "token_logprobs": [], "top_logprobs": []}
    for token in tokens:
        text = spelled(model, token.id)
        told["tokens"].append(text)
        told["text_offset"].append(offset)
        told["token_logprobs"].append(token.logprob)
        top = {spelled(model, id): logprob for id, logprob in token.top}
        told["top_logprobs"].append(top if token.logprob is not None else None)
        offset += len(text)
    return told


def chat_logprobs(model: Model, tokens: Iterable[Token]) -> Json:
    """The probabilities of a chat's answer."""

    def told(id: int, logprob: Optional[float]) -> Json:
        bytes = model.decode_bytes([id], special=True)
        return {"token": bytes.decode("utf-8", errors="replace"), "bytes": list(bytes), "logprob": logprob}

    content = [
        {**told(token.id, token.logprob), "top_logprobs": [told(id, logprob) for id, logprob in token.top]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def message(answer: Answer, functions: bool) -> Json:
    """An answer as a message; `functions`: calls in their older form."""
    told: Json = {"role": "assistant", "content": answer.text or (None if answer.calls else "")}
    if answer.calls:
        told["tool_calls"] = answer.message["tool_calls"]
        if functions:
            told["function_call"] = told["tool_calls"][0]["function"]
    return told


def delta(piece: Piece, functions: bool) -> Json:
    """What is new of an answer."""
    told: Json = {"content": piece.text} if piece.text else {}
    calls = []
    for index, id, name, arguments in piece.calls:
        function = {"name": name or None, "arguments": arguments}
        calls.append({"index": index, "id": id or None, "type": "function", "function": function})
        if functions and index == 0:
            told["function_call"] = function
    if calls:
        told["tool_calls"] = calls
    return told
