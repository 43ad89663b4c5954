"""`Llama`: llama-cpp-python's class over `quipu.Model`."""

from __future__ import annotations

import fnmatch
import json
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Union

from ..model import Model
from . import shapes
from .grammar import LlamaGrammar
from .llama_chat_format import CHATML
from .shapes import Json

#: What has no meaning on a CPU, or is decided by Quipu.
IGNORED = {
    "n_gpu_layers", "split_mode", "main_gpu", "tensor_split", "vocab_only", "kv_overrides", "n_batch", "n_ubatch",
    "n_threads_batch", "rope_scaling_type", "pooling_type", "yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast",
    "yarn_beta_slow", "yarn_orig_ctx", "logits_all", "embedding", "offload_kqv", "flash_attn", "op_offload", "swa_full",
    "no_perf", "last_n_tokens_size", "numa", "tokenizer", "verbose", "n_parts", "f16_kv", "device", "lora_scale",
    "spm_infill", "rpc_servers",
}  # fmt: skip
#: What changes what a model writes and is not here, with the values that mean nothing.
REFUSED: Dict[str, Sequence[Any]] = {
    "lora_path": (None,), "lora_base": (None,), "chat_handler": (None,), "draft_model": (None,),
    "rope_freq_base": (None, 0, 0.0, 10000.0), "rope_freq_scale": (None, 0, 0.0, 1.0), "type_k": (None, 1),
    "type_v": (None, 1),
}  # fmt: skip
#: llama.cpp's number for a new seed each time.
NEW_SEED = 0xFFFFFFFF


def refuse(**given: Any) -> None:
    """Refuses arguments that cannot be done."""
    for name, value in given.items():
        if value:
            raise NotImplementedError(f"{name} is not supported by quipu.compat")


class Llama:
    """A model under llama-cpp-python's names.

    >>> from quipu.compat import Llama
    >>> llm = Llama("demo", n_ctx=0, verbose=False)
    >>> llm("Once upon a time", max_tokens=8)["choices"][0]["finish_reason"]
    'length'
    """

    def __init__(
        self,
        model_path: str,
        *,
        n_ctx: int = 512,
        n_threads: Optional[int] = None,
        seed: int = NEW_SEED,
        use_mmap: bool = True,
        use_mlock: bool = False,
        chat_format: Optional[str] = None,
        **others: Any,
    ) -> None:
        for name, value in others.items():
            if name in REFUSED and value not in REFUSED[name]:
                raise NotImplementedError(f"{name}={value!r} is not supported by quipu.compat")
            if name not in REFUSED and name not in IGNORED:
                raise TypeError(f"Llama has no argument {name}")
        self.model_path = model_path
        self.chat_format = chat_format
        self._seed = seed
        self._options: Dict[str, Any] = {
            "context": n_ctx or None, "threads": n_threads, "mmap": use_mmap, "mlock": use_mlock,
            "default_chat_template": CHATML,
        }  # fmt: skip
        self._model = Model(model_path, **self._options)
        self.verbose = bool(others.get("verbose", True))

    @classmethod
    def from_pretrained(
        cls, repo_id: str, filename: Optional[str] = None, *, local_dir: Optional[str] = None, **options: Any
    ) -> Llama:
        """Fetches a file of a repository of the Hugging Face Hub and opens it. Needs huggingface_hub."""
        from huggingface_hub import HfApi, hf_hub_download

        names = [name for name in HfApi().list_repo_files(repo_id) if fnmatch.fnmatch(name, filename or "*.gguf")]
        if len(names) != 1:
            raise ValueError(f"{repo_id} has {len(names)} files {filename or '*.gguf'}, expected one: {names}")
        return cls(hf_hub_download(repo_id, names[0], local_dir=local_dir), **options)

    @property
    def model(self) -> Model:
        """The model, for what is beyond llama-cpp-python's names."""
        return self._model

    # Texts

    def __call__(self, prompt: str, **options: Any) -> Union[Json, Iterator[Json]]:
        """As `create_completion`."""
        return self.create_completion(prompt, **options)

    def create_completion(
        self,
        prompt: Union[str, List[int]],
        suffix: Optional[str] = None,
        max_tokens: Optional[int] = 16,
        temperature: float = 0.8,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        logprobs: Optional[int] = None,
        echo: bool = False,
        stop: Union[str, List[str], None] = None,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        top_k: int = 40,
        stream: bool = False,
        seed: Optional[int] = None,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: Optional[str] = None,
        stopping_criteria: Any = None,
        logits_processor: Any = None,
        grammar: Optional[LlamaGrammar] = None,
        logit_bias: Optional[Mapping[Any, float]] = None,
    ) -> Union[Json, Iterator[Json]]:
        """Continues a text."""
        refuse(suffix=suffix, stopping_criteria=stopping_criteria, logits_processor=logits_processor)
        refuse(tfs_z=tfs_z != 1.0)
        options = self._sampling(
            max_tokens, temperature, top_p, min_p, typical_p, stop, frequency_penalty, presence_penalty, repeat_penalty,
            top_k, seed, mirostat_mode, mirostat_tau, mirostat_eta, grammar, logit_bias,
        )  # fmt: skip
        if logprobs is not None:
            options.update(logprobs=True, top=logprobs, prompt_logprobs=echo)
        head = shapes.head("text_completion", "cmpl", model or self.model_path)
        said = prompt if isinstance(prompt, str) else self._model.decode(prompt)
        running = self._model.stream(prompt, **options)
        if stream:
            return self._completion_chunks(running, head, said if echo else "", logprobs is not None)
        answer = running.answer
        told = None
        if logprobs is not None:
            tokens = (answer.prompt if echo else []) + answer.tokens
            told = shapes.completion_logprobs(self._model, tokens, 0 if echo else len(said))
        text = said + answer.text if echo else answer.text
        reason = shapes.finish_reason(answer)
        choice = {"text": text, "index": 0, "logprobs": told, "finish_reason": reason}
        return {**head, "choices": [choice], "usage": shapes.usage(answer)}

    def _completion_chunks(self, running: Any, head: Json, echoed: str, logprobs: bool) -> Iterator[Json]:
        def chunk(text: str, told: Optional[Json], reason: Optional[str]) -> Json:
            return {**head, "choices": [{"text": text, "index": 0, "logprobs": told, "finish_reason": reason}]}

        with running:
            if echoed:
                yield chunk(echoed, None, None)
            offset = len(echoed)
            for piece in running:
                told = None
                if logprobs and piece.id is not None:
                    told = shapes.completion_logprobs(self._model, [piece], offset)
                offset += len(piece.text)
                yield chunk(piece.text, told, None)
            yield chunk("", None, shapes.finish_reason(running.answer))

    def create_chat_completion(
        self,
        messages: List[Json],
        functions: Optional[List[Json]] = None,
        function_call: Any = None,
        tools: Optional[List[Json]] = None,
        tool_choice: Any = None,
        temperature: float = 0.2,
        top_p: float = 0.95,
        top_k: int = 40,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        stream: bool = False,
        stop: Union[str, List[str], None] = None,
        seed: Optional[int] = None,
        response_format: Optional[Json] = None,
        max_tokens: Optional[int] = None,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: Optional[str] = None,
        logits_processor: Any = None,
        grammar: Optional[LlamaGrammar] = None,
        logit_bias: Optional[Mapping[Any, float]] = None,
        logprobs: Optional[bool] = None,
        top_logprobs: Optional[int] = None,
        **variables: Any,
    ) -> Union[Json, Iterator[Json]]:
        """Answers a chat. What is no argument is a variable of the chat template."""
        refuse(logits_processor=logits_processor, tfs_z=tfs_z != 1.0)
        options = self._sampling(
            max_tokens, temperature, top_p, min_p, typical_p, stop, frequency_penalty, presence_penalty, repeat_penalty,
            top_k, seed, mirostat_mode, mirostat_tau, mirostat_eta, grammar, logit_bias,
        )  # fmt: skip
        options.update(self._format(response_format))
        if logprobs:
            options.update(logprobs=True, top=top_logprobs or 0)
        if functions:
            tools = [{"type": "function", "function": function} for function in functions]
            tool_choice = function_call
        if isinstance(tool_choice, dict) and "function" not in tool_choice:
            tool_choice = {"type": "function", "function": tool_choice}
        options.update(tools=tools or None, tool_choice=tool_choice if tools else None, variables=variables or None)
        if self._model.chat_template == CHATML:
            # Of which a model without a template knows nothing.
            options["stop"] = [*([stop] if isinstance(stop, str) else stop or []), "<|im_end|>"]
        running = self._model.stream(messages, **options)
        name = model or self.model_path
        if stream:
            head = shapes.head("chat.completion.chunk", "chatcmpl", name)
            return self._chat_chunks(running, head, bool(functions), bool(logprobs))
        answer = running.answer
        choice = {
            "index": 0,
            "message": shapes.message(answer, bool(functions)),
            "logprobs": shapes.chat_logprobs(self._model, answer.tokens) if logprobs else None,
            "finish_reason": self._chat_reason(answer, bool(functions)),
        }
        head = shapes.head("chat.completion", "chatcmpl", name)
        return {**head, "choices": [choice], "usage": shapes.usage(answer)}

    def _chat_chunks(self, running: Any, head: Json, functions: bool, logprobs: bool) -> Iterator[Json]:
        def chunk(delta: Json, told: Optional[Json], reason: Optional[str]) -> Json:
            return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": told, "finish_reason": reason}]}

        with running:
            yield chunk({"role": "assistant"}, None, None)
            for piece in running:
                told = None
                if logprobs and piece.id is not None:
                    told = shapes.chat_logprobs(self._model, [piece])
                delta = shapes.delta(piece, functions)
                if delta or told:
                    yield chunk(delta, told, None)
            yield chunk({}, None, self._chat_reason(running.answer, functions))

    @staticmethod
    def _chat_reason(answer: Any, functions: bool) -> str:
        reason = shapes.finish_reason(answer)
        if reason == "stop" and answer.calls and all(call.complete for call in answer.calls):
            return "function_call" if functions else "tool_calls"
        return reason

    def create_chat_completion_openai_v1(self, *arguments: Any, **options: Any) -> Any:
        """As `create_chat_completion`, in openai-python's types. Needs openai."""
        from openai.types.chat import ChatCompletion, ChatCompletionChunk

        told = self.create_chat_completion(*arguments, **options)
        if isinstance(told, dict):
            return ChatCompletion(**told)
        return (ChatCompletionChunk(**chunk) for chunk in told)

    def generate(self, tokens: Sequence[int], top_k: int = 40, top_p: float = 0.95, min_p: float = 0.05,
                 typical_p: float = 1.0, temp: float = 0.8, repeat_penalty: float = 1.0, **others: Any) -> Iterator[int]:  # fmt: skip
        """The ids of the tokens that come after these, until the model ends the text."""
        options: Dict[str, Any] = dict(top_k=top_k, top_p=top_p, min_p=min_p, typical=typical_p, temp=temp)
        refuse(**others)
        with self._model.stream(list(tokens), max_tokens=None, repeat_penalty=repeat_penalty, **options) as running:
            for piece in running:
                if piece.id is not None:
                    yield piece.id

    def _sampling(
        self, max_tokens: Any, temperature: Any, top_p: Any, min_p: Any, typical_p: Any, stop: Any, frequency: Any,
        presence: Any, repeat: Any, top_k: Any, seed: Any, mode: Any, tau: Any, eta: Any, grammar: Any, bias: Any,
    ) -> Dict[str, Any]:  # fmt: skip
        seed = self._seed if seed is None else seed
        # Zero, less and nothing are no limit there.
        options = {
            "max_tokens": max_tokens if max_tokens and max_tokens > 0 else None,
            "temp": temperature, "top_p": top_p, "min_p": min_p, "typical": typical_p, "stop": stop or None,
            "frequency_penalty": frequency, "presence_penalty": presence, "repeat_penalty": repeat,
            "top_k": max(top_k, 0), "seed": None if seed in (-1, NEW_SEED) else seed,
            "mirostat": mode, "mirostat_ent": tau, "mirostat_lr": eta,
            "logit_bias": {int(id): value for id, value in bias.items()} if bias else None,
        }  # fmt: skip
        if grammar is not None:
            options.update(grammar.options)
        return options

    @staticmethod
    def _format(response_format: Optional[Json]) -> Dict[str, Any]:
        kind = (response_format or {}).get("type", "text")
        if response_format is None or kind == "text":
            return {}
        if kind == "json_object":
            return {"schema": response_format.get("schema") or True}
        if kind == "json_schema":
            return {"schema": response_format["json_schema"]["schema"]}
        raise ValueError(f"response_format has the type {kind!r}, expected text, json_object or json_schema")

    # Vectors

    def embed(
        self, input: Union[str, List[str]], normalize: bool = False, truncate: bool = True, return_count: bool = False
    ) -> Any:
        """A text as a vector, or texts as vectors."""
        texts = [input] if isinstance(input, str) else list(input)
        rows = self._model._embed(texts, "mean", normalize, False)
        vectors = [rows.row_list(i) for i in range(len(texts))]
        found = vectors[0] if isinstance(input, str) else vectors
        if return_count:
            return found, sum(len(self._model.encode(text)) for text in texts)
        return found

    def create_embedding(self, input: Union[str, List[str]], model: Optional[str] = None) -> Json:
        """The same in OpenAI's form."""
        vectors, tokens = self.embed([input] if isinstance(input, str) else input, return_count=True)
        data = [{"object": "embedding", "embedding": vector, "index": i} for i, vector in enumerate(vectors)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": model or self.model_path, "usage": usage}

    # Tokens

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> List[int]:
        """The tokens of a text."""
        tokens = self._model.encode(text.decode("utf-8", errors="ignore"), special=False, plain=not special)
        bos = self._model.bos
        return [bos, *tokens] if add_bos and bos is not None and tokens[:1] != [bos] else tokens

    def detokenize(
        self, tokens: List[int], prev_tokens: Optional[List[int]] = None, special: bool = False
    ) -> bytes:
        """The bytes of tokens."""
        found = self._model.decode_bytes(tokens, special=special)
        begins = not prev_tokens and tokens[:1] == [self._model.bos]
        return found[1:] if begins and not special and found.startswith(b" ") else found

    def token_bos(self) -> int:
        """The token that begins a text; -1 if there is none."""
        return -1 if self._model.bos is None else self._model.bos

    def token_eos(self) -> int:
        """The token that ends a text; -1 if there is none."""
        return -1 if self._model.eos is None else self._model.eos

    def token_nl(self) -> int:
        """The token of a line end."""
        return self._model.encode("\n", special=False)[-1]

    def n_ctx(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self._model.context

    def n_vocab(self) -> int:
        """Logits per token."""
        return self._model.vocabulary

    def n_embd(self) -> int:
        """Numbers of a vector."""
        return self._model.hidden

    @property
    def metadata(self) -> Dict[str, str]:
        """The model's chat template; nothing else."""
        template = self._model.chat_template
        return {} if template is None else {"tokenizer.chat_template": template}

    # What needs nothing to be done

    def set_cache(self, cache: Any) -> None:
        """What was read is always kept."""

    def set_seed(self, seed: int) -> None:
        """The seed of texts that bring none."""
        self._seed = seed

    def reset(self) -> None:
        """Every text begins anew."""

    def save_state(self) -> Any:
        refuse(save_state=True)

    def load_state(self, state: Any) -> None:
        refuse(load_state=True)

    # Its life

    def close(self) -> None:
        """Gives up the model."""
        self._model.close()

    def __enter__(self) -> Llama:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __getstate__(self) -> str:
        return json.dumps([self.model_path, self.chat_format, self._seed, self._options, self.verbose])

    def __setstate__(self, state: str) -> None:
        self.model_path, self.chat_format, self._seed, self._options, self.verbose = json.loads(state)
        self._model = Model(self.model_path, **self._options)
