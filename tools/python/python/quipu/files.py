"""Model files."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Tuple, Union

from . import _quipu


@dataclass(frozen=True)
class Written:
    """A model that was written: its files, their bytes, and how many tensors have which type."""

    files: List[str]
    bytes: int
    types: List[Tuple[str, int]]


def quantize(
    input: Union[str, os.PathLike[str]],
    output: Union[str, os.PathLike[str]],
    type: Optional[str] = None,
    *,
    target_bits: Optional[float] = None,
    tensors: Optional[Mapping[str, str]] = None,
    packed: bool = False,
    imatrix: Union[str, os.PathLike[str], None] = None,
    calibrate: str = "random",
    calibration_text: Optional[str] = None,
    rounding: str = "search",
    split_size: Optional[int] = None,
) -> Written:
    """Writes a model with weights of another type (`q4_k_m`), or of those that a size is best spent on
    (`target_bits=4.5`). The file appears under its name when it is complete; Ctrl-C leaves nothing behind.

    tensors: other types for some: `{"attn_v": "q6_k"}`.
    packed: the packed form, which is mapped and used as it is.
    calibrate: what is known of the inputs of the matrices: `random` tokens, the model's `own` text, or `none`; or by an
    `imatrix` file, or a `calibration_text`.

    >>> import os, tempfile, quipu
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = os.path.join(directory, "tales.quipu")
    ...     quipu.convert("demo", path, packed=True).bytes == os.path.getsize(path)
    True
    """
    given: Any = {
        "type": type,
        "target_bits": target_bits,
        "tensors": list(tensors.items()) if tensors else None,
        "packed": packed,
        "imatrix": imatrix,
        "calibrate": calibrate,
        "calibration_text": calibration_text,
        "rounding": rounding,
        "split_size": split_size,
    }
    written = _quipu.write(os.fspath(input), os.fspath(output), given)
    for warning in written.pop("warnings"):
        warnings.warn(warning, stacklevel=2)
    return Written([os.fspath(file) for file in written["files"]], written["bytes"], written["types"])


def convert(
    input: Union[str, os.PathLike[str]], output: Union[str, os.PathLike[str]], type: Optional[str] = None, **options: Any
) -> Written:
    """Writes a Hugging Face checkpoint, or another model, as a GGUF that runs here and in llama.cpp; without `type`
    weights stay what they are. The other options are those of `quantize`."""
    return quantize(input, output, type, **options)
