"""What `mcnet.checkpoint` needs of the safetensors library, for machines on which it cannot be installed.

The library is compiled and cannot travel as a file; its format is a length, a JSON table and the tensors' bytes
(https://github.com/huggingface/safetensors, "Format"). Where the library is there, it is used.
"""

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_LARGEST_TABLE = 100_000_000
"""Bytes, as the library has it."""


class SafetensorError(Exception):
    """A file that is no whole safetensors file."""


class safe_open:  # noqa: N801 - the library's own name
    """Reads one file's table and tensors. Use as a context manager.

    Args:
        path: of the file.
        framework: `pt` for torch's tensors, `numpy` for arrays.

    Raises:
        SafetensorError: the file is truncated, or no safetensors file.
        TypeError: NumPy does not know a tensor's type; raised when it is asked for.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path | str, framework: str = "pt") -> None:
        assert framework in ("pt", "numpy")
        self._as_array = framework == "numpy"
        whole = Path(path).read_bytes()
        length = int.from_bytes(whole[:8], "little")
        if len(whole) < 8 or length > min(_LARGEST_TABLE, len(whole) - 8):
            raise SafetensorError("its table is longer than the file")
        try:
            table = json.loads(whole[8 : 8 + length])
            self._metadata: dict[str, str] | None = table.pop("__metadata__", None)
            self._tensors = {name: _tensor(row, memoryview(whole)[8 + length :]) for name, row in table.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise SafetensorError(f"its table cannot be used: {error}") from error

    def metadata(self) -> dict[str, str] | None:
        """The texts in the table."""
        return self._metadata

    def keys(self) -> list[str]:
        """Names of the tensors."""
        return list(self._tensors)

    def get_slice(self, name: str) -> "_Slice":
        """What is known of a tensor before it is given."""
        return _Slice(_NAMES[self._tensors[name].dtype])

    def get_tensor(self, name: str) -> Any:
        """A tensor of its own, or an array."""
        tensor = self._tensors[name]
        return tensor.numpy() if self._as_array else tensor

    def __enter__(self) -> "safe_open":
        return self

    def __exit__(self, *_: object) -> None:
        self._tensors = {}


class _Slice(NamedTuple):
    """A tensor's type, by the library's name."""

    dtype: str

    def get_dtype(self) -> str:
        return self.dtype


def _tensor(row: Mapping[str, Any], data: memoryview) -> Tensor:
    begin, end = row["data_offsets"]
    dtype, shape = _DTYPES[row["dtype"]], row["shape"]
    if not 0 <= begin <= end <= len(data):
        raise ValueError("a tensor lies beyond the file's end")
    if begin == end:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data[begin:end]), dtype=dtype).view(shape)


def save(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A file's content, as the library's `safetensors.torch.save`."""
    table: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    parts: list[bytes] = []
    at = 0
    # The widest first, so that every tensor is aligned to its own size.
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        part = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        table[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return b"".join((len(header).to_bytes(8, "little"), header, *parts))


def stand_in() -> None:
    """Let this module be `safetensors` where the library is not installed."""
    try:
        importlib.import_module("safetensors")
    except ImportError:
        library, its_torch = ModuleType("safetensors"), ModuleType("safetensors.torch")
        library.__dict__.update(SafetensorError=SafetensorError, safe_open=safe_open, torch=its_torch)
        its_torch.__dict__.update(save=save)
        sys.modules |= {"safetensors": library, "safetensors.torch": its_torch}
