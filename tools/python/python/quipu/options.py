"""How texts are written: keyword arguments with the names and defaults of `quipu run`."""

from __future__ import annotations

import json
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, TypedDict, Union


class Options(TypedDict, total=False):
    """Keyword arguments of `Model.generate` and its twins. What is not given is as in `quipu run`."""

    #: Tokens to write at most; None: until the text or the context ends. 256 for texts; for chats no limit.
    max_tokens: Optional[int]
    #: The same seed gives the same text on every machine; None: a new one. A list has one for each prompt.
    seed: Union[int, Sequence[int], None]

    #: 0 always takes the likeliest token; higher is wilder. 0.8.
    temp: float
    #: Draw among the K likeliest tokens; 0: all. 40.
    top_k: int
    #: Draw among the fewest tokens with this probability together; 1: all. 0.95.
    top_p: float
    #: Draw among tokens at least P times as likely as the likeliest; 0: all. 0.05.
    min_p: float
    #: Discourage tokens seen lately by this factor; 1: off.
    repeat_penalty: float
    #: Discourage tokens seen lately by this much for each time; 0: off.
    frequency_penalty: float
    #: Discourage tokens seen lately by this much; 0: off.
    presence_penalty: float
    #: How many tokens "lately" means for the penalties. 64.
    repeat_last_n: int
    #: Added to the logits of these tokens; -inf excludes one.
    logit_bias: Mapping[int, float]

    #: End the text before this string, or the first of these.
    stop: Union[str, Sequence[str]]
    #: End the text before the token with this id, or the first of these.
    stop_token: Union[int, Sequence[int]]
    #: Never draw a token with which the model ends texts.
    ignore_eos: bool
    #: Never write this text, or these.
    ban: Union[str, Sequence[str]]

    #: JSON that is valid against this schema: a dict, a text, or True for any object.
    schema: Union[Mapping[str, Any], str, bool]
    #: What a grammar allows: GBNF, or Lark after the word %llguidance.
    grammar: str
    #: What matches this regular expression from its beginning to its end.
    regex: str
    #: One of these texts.
    choices: Sequence[str]

    #: Functions that the model may call, in OpenAI's form (chats).
    tools: Sequence[Mapping[str, Any]]
    #: auto, none, required, or {"type": "function", "function": {"name": …}}.
    tool_choice: Union[str, Mapping[str, Any]]
    #: Whether there may be several calls in an answer.
    parallel_tool_calls: bool
    #: What the chat template sees besides, such as enable_thinking.
    variables: Mapping[str, Any]
    #: Think for N tokens at most (<think>), then answer; None: as long as the model likes.
    thinking_budget: Optional[int]

    #: Tell how likely each token was.
    logprobs: bool
    #: Tell the likeliest tokens in each place, so many.
    top: int
    #: Tell how likely each token of the prompt was.
    prompt_logprobs: bool
    #: Take special tokens that are written in a text as plain text.
    plain: bool

    #: 1: all.
    typical: float
    #: 0 or less: all.
    top_nsigma: float
    #: XTC: how often to leave out the top choices but the last of them; 0: never.
    xtc_probability: float
    xtc_threshold: float
    #: Let the temperature move this far either way with the entropy; 0: off.
    dynatemp_range: float
    dynatemp_exp: float
    #: DRY: 0: off.
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    dry_sequence_breaker: Union[str, Sequence[str]]
    #: 0: off.
    mirostat: int
    mirostat_ent: float
    mirostat_lr: float
    #: Never write a sequence of N tokens twice; 0: off.
    no_repeat_ngram: int
    #: The steps in their order, with semicolons between them or in a list.
    samplers: Union[str, Sequence[str]]


#: What belongs to a chat and not to how it is answered.
OF_CHATS = ("tools", "tool_choice", "parallel_tool_calls", "variables")


def split(options: Mapping[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """What belongs to the chats, and what the native module takes."""
    chat: Dict[str, Any] = {}
    native: Dict[str, Any] = {}
    for name, value in options.items():
        if name in OF_CHATS:
            if value is not None:
                chat[name] = value
        elif name == "schema" and value is not None and not isinstance(value, str):
            native[name] = json.dumps({"type": "object"} if value is True else value)
        else:
            native[name] = value
    return chat, native
