"""A model that is loaded."""

from __future__ import annotations

import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union, overload

from . import _quipu, options as _options, prompts as _prompts
from .answer import Answer, Scored
from .prompts import Chat, Prompt
from .stream import AsyncStream, Stream

if TYPE_CHECKING:
    import numpy
    from typing_extensions import Unpack

    from .options import Options

    Path = Union[str, os.PathLike[str]]


@dataclass(frozen=True)
class Perplexity:
    """How well a model predicts a text: `ppl` with its standard error, the mean negative log-likelihood `nll` in nats."""

    ppl: float
    error: float
    nll: float
    tokens: int
    chunks: int
    ctx: int


class Model:
    """A model that is loaded: a GGUF file, a packed file, a Hugging Face directory, `ollama:NAME`,
    `hf:ORG/REPO[:TYPE]`, or `demo`, the small model that is in this package.

    Any number of threads and tasks may ask it for texts at the same time; they are written side by side, and each is
    what it would be alone. No call holds the GIL while the model works, and Ctrl-C is heard between two tokens. A model
    is pickled by its path and options: who unpickles it opens the same file, whose pages processes share if it is a
    packed one.

    threads: how many; None: one for each fast core.
    context: tokens of a prompt and its answer together; None: the model's own limit.
    kv: numbers of the KV cache: f16, f32, q8, q4 or q8q4.
    kv_memory: bytes for the keys and values of all texts, with what is kept of prompts; None: half of what is free.
    parallel: texts that are written side by side at most; others wait.
    itl_target: seconds that a text may stand still while prompts of others are read; 0: as long as it takes.
    draft: `text` guesses tokens from what the text has said before, `none` does not. The text is the same.
    chat_template: a Jinja template in the place of the model's own; default_chat_template: for a model that has none.
    isa, tuning, mmap, mlock: as `quipu run` has them.

    >>> import quipu
    >>> with quipu.Model("demo", threads=1) as model:
    ...     answer = model.generate("Once upon a time", max_tokens=8, seed=1)
    >>> answer.stop, len(answer.tokens)
    ('limit', 8)
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: Optional[int] = None,
        context: Optional[int] = None,
        kv: str = "f16",
        kv_memory: Optional[int] = None,
        parallel: int = 64,
        itl_target: float = 0.1,
        draft: str = "text",
        chat_template: Optional[str] = None,
        default_chat_template: Optional[str] = None,
        isa: Optional[str] = None,
        tuning: Optional[str] = None,
        mmap: bool = True,
        mlock: bool = False,
    ) -> None:
        self.path = os.fspath(path)
        self._options: Dict[str, Any] = dict(
            threads=threads, context=context, kv=kv, kv_memory=kv_memory, parallel=parallel, itl_target=itl_target,
            draft=draft, chat_template=chat_template, default_chat_template=default_chat_template, isa=isa,
            tuning=tuning, mmap=mmap, mlock=mlock,
        )  # fmt: skip
        self._native = _quipu.Model(self.path, self._options)
        # Threads are made when they are needed; more than this many texts are not written at once anyway.
        self._executor = ThreadPoolExecutor(max_workers=max(parallel, 1), thread_name_prefix="quipu")
        for warning in self._native.warnings:
            warnings.warn(warning, stacklevel=2)

    # Texts

    @overload
    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def generate(self, prompt: Sequence[Prompt], **options: Unpack[Options]) -> List[Answer]: ...
    def generate(
        self, prompt: Union[Prompt, Sequence[Prompt]], **options: Unpack[Options]
    ) -> Union[Answer, List[Answer]]:
        """Continues a text, a list of token ids, or answers a chat (a list of messages in OpenAI's form). A list of
        these is written side by side, each as it would be alone, and prompts that begin alike are read once.

        `help(quipu.Options)` tells all options. `seed` may be a list with one for each prompt.

        >>> import quipu
        >>> model = quipu.Model("demo")
        >>> one, two = model.generate(["Once upon a time", "There was a king"], max_tokens=8, seed=[1, 2])
        >>> str(two) == str(model.generate("There was a king", max_tokens=8, seed=2))
        True
        >>> str(model.generate("The king's age was", regex=" [0-9]{2}"))[0]
        ' '
        """
        one, texts = self._submit(prompt, options)
        answers = Stream(texts).answers
        return answers[0] if one else answers

    def stream(self, prompt: Union[Prompt, Sequence[Prompt]], **options: Unpack[Options]) -> Stream:
        """The same piece by piece, as it comes: `for piece in model.stream("Once"): print(piece, end="")`.

        >>> import quipu
        >>> pieces = list(quipu.Model("demo").stream("Once upon a time", max_tokens=8))
        >>> len([piece for piece in pieces if piece.id is not None])
        8
        """
        return Stream(self._submit(prompt, options)[1])

    @overload
    async def agenerate(self, prompt: Prompt, **options: Unpack[Options]) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    async def agenerate(self, prompt: Sequence[Prompt], **options: Unpack[Options]) -> List[Answer]: ...
    async def agenerate(
        self, prompt: Union[Prompt, Sequence[Prompt]], **options: Unpack[Options]
    ) -> Union[Answer, List[Answer]]:
        """`generate` for `await`. A task that is cancelled ends its texts."""
        one, texts = self._submit(prompt, options)
        answers = await AsyncStream(texts, self._executor).answers()
        return answers[0] if one else answers

    def astream(self, prompt: Union[Prompt, Sequence[Prompt]], **options: Unpack[Options]) -> AsyncStream:
        """`stream` for `async for`."""
        return AsyncStream(self._submit(prompt, options)[1], self._executor)

    def _submit(self, prompt: Any, options: Any) -> Tuple[bool, _quipu.Texts]:
        one = _prompts.is_one(prompt)
        prompt = prompt if isinstance(prompt, str) else list(prompt)
        chat, native = _options.split(options)
        if chat and not any(isinstance(item, Mapping) for item in (prompt if one else _first(prompt))):
            raise TypeError(f"{next(iter(chat))} is for chats, and the prompt is none")
        prompts = [_prompts.native(item, chat) for item in ([prompt] if one else prompt)]
        return one, self._native.submit(prompts, native)

    # What a model makes of a text

    def score(self, text: Union[str, Sequence[int]], *, top: int = 0, plain: bool = False) -> Scored:
        """How likely each token of a text is after those before it; with `top` also what else was likely.

        >>> import quipu
        >>> scored = quipu.Model("demo").score("Once upon a time")
        >>> scored.tokens[0].logprob is None and scored.total < 0
        True
        """
        answer = self.generate(text, max_tokens=0, prompt_logprobs=True, top=top, plain=plain)
        return Scored(answer.prompt, sum(token.logprob or 0.0 for token in answer.prompt))

    def perplexity(self, text: str, *, context: int = 512, chunks: Optional[int] = None) -> Perplexity:
        """How well the model predicts a text, by llama.cpp's method (`quipu perplexity`). Texts that others want
        meanwhile wait."""
        return Perplexity(**self._native.perplexity(text, context, chunks))

    def logits(self, prompt: Prompt, *, all: bool = False, plain: bool = False) -> numpy.ndarray:
        """The logits after the last token of a prompt, as an array of `vocabulary` numbers; with `all` after each of
        its tokens, as rows. The array shares the memory of the model's result and cannot be written to. Needs numpy.
        """
        return _array(self._native.logits(_prompts.native(prompt, {}), all, plain))

    def embed(
        self,
        texts: Union[Prompt, Sequence[Prompt]],
        *,
        pooling: str = "mean",
        normalize: bool = True,
        plain: bool = False,
    ) -> numpy.ndarray:
        """A text as a vector, or texts as rows: hidden states after the final norm, their mean or the last one
        (`pooling="last"`), brought to length 1. Shares the memory of the model's result. Needs numpy."""
        one = _prompts.is_one(texts)
        rows = _array(self._embed([texts] if one else texts, pooling, normalize, plain))
        return rows[0, :] if one else rows

    def _embed(self, texts: Any, pooling: str, normalize: bool, plain: bool) -> _quipu.Array:
        return self._native.embed([_prompts.native(text, {}) for text in texts], pooling, normalize, plain)

    # The tokenizer

    def encode(self, text: str, *, special: bool = True, plain: bool = False) -> List[int]:
        """The tokens of a text. `special`: with those that the model wants at the beginning and the end; `plain`: what
        looks like a control token (`<|eot_id|>`) is text."""
        return self._native.encode(text, special, not plain)

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """The text of tokens; `special`: with control tokens spelled out."""
        return self._native.decode_text(list(tokens), special)

    def decode_bytes(self, tokens: Sequence[int], *, special: bool = False) -> bytes:
        """The bytes of tokens, which need not be whole characters."""
        return self._native.decode(list(tokens), special)

    def token_id(self, piece: str) -> Optional[int]:
        """The token that the model's file spells like this, such as `<|eot_id|>`."""
        return self._native.token_id(piece)

    def render(self, chat: Chat, *, tools: Optional[Sequence[Any]] = None, **variables: Any) -> str:
        """A chat as the model's template renders it: what the model is to continue."""
        body: Dict[str, Any] = {"messages": list(chat), "variables": variables}
        if tools:
            body["tools"] = list(tools)
        return self._native.render(json.dumps(body))

    # What it is

    @property
    def context(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self._native.context

    @property
    def vocabulary(self) -> int:
        """Logits per token."""
        return self._native.vocabulary

    @property
    def hidden(self) -> int:
        """Numbers of an embedding."""
        return self._native.hidden

    @property
    def threads(self) -> int:
        """Threads in use."""
        return self._native.threads

    @property
    def isa(self) -> str:
        """The instruction set in use."""
        return self._native.isa

    @property
    def bos(self) -> Optional[int]:
        """The token that begins a text."""
        return self._native.bos

    @property
    def eos(self) -> Optional[int]:
        """The token that ends a text."""
        return self._native.eos

    @property
    def ends(self) -> List[int]:
        """All tokens with which the model ends texts."""
        return self._native.ends

    @property
    def chat_template(self) -> Optional[str]:
        """The model's chat template."""
        return self._native.chat_template

    # Its life

    def close(self) -> None:
        """Gives up the model, once the texts have ended that it is writing."""
        self._native.close()
        self._executor.shutdown(wait=False)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __reduce__(self) -> Tuple[Any, Tuple[str, Dict[str, Any]]]:
        return _open, (self.path, self._options)

    def __repr__(self) -> str:
        return f"quipu.Model({self.path!r})"


def _open(path: str, options: Dict[str, Any]) -> Model:
    """Opens what was pickled."""
    return Model(path, **options)


def _first(prompts: Any) -> Any:
    """The messages of the first of several prompts, if that is a chat."""
    first = next(iter(prompts), ())
    return first if isinstance(first, (list, tuple)) else ()


def _array(native: _quipu.Array) -> numpy.ndarray:
    try:
        import numpy
    except ImportError as error:
        raise ImportError("arrays need numpy: pip install numpy") from error
    return numpy.asarray(native)
