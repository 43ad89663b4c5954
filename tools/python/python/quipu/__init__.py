"""Runs quantised Llama models on CPUs, with the same tokens everywhere.

>>> import quipu
>>> model = quipu.Model("demo")
>>> str(model.generate("Once upon a time", max_tokens=8, seed=1)) != ""
True

`Model` opens a model and writes texts with it, many at once. `quantize` and `convert` write model files.
`quipu.compat.Llama` has the names of llama-cpp-python, for programs that know these.
"""

from ._quipu import Error, __version__
from .answer import Answer, Call, Piece, Scored, Token
from .files import Written, convert, quantize
from .model import Model, Perplexity
from .options import Options
from .stream import AsyncStream, Stream

__all__ = [
    "Answer",
    "AsyncStream",
    "Call",
    "Error",
    "Model",
    "Options",
    "Perplexity",
    "Piece",
    "Scored",
    "Stream",
    "Token",
    "Written",
    "__version__",
    "convert",
    "quantize",
]
