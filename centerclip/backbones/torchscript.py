"""The tensors of a TorchScript archive, read without running any of its code.

`torch.jit.load` runs an archive's `__setstate__`, whose operators can write files. An archive is a zip of storages,
`NAME/data/KEY`, and a pickle of the module, `NAME/data.pkl`. Here its classes become empty objects.
"""

import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

ADVICE = "where you trust the file, load it and torch.save its state_dict()"
STORAGES = {
    **{"DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16},
    **{"BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32},
    **{"ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool},
}


class Part:
    """A module of the archive; `state` is what its class would get."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class Reader(pickle.Unpickler):
    """Unpickles tensors, containers and `Part`s of the archive `records`. It refuses any other global."""

    def __init__(self, archive: zipfile.ZipFile, directory: str):
        super().__init__(archive.open(f"{directory}/data.pkl"))
        self.archive, self.directory, self.storages = archive, directory, {}

    def find_class(self, module: str, name: str) -> type | Callable | torch.dtype:
        # A pickle can set attributes of what it is given: so each answer is an object of its own.
        if module == "__torch__" or module.startswith("__torch__."):
            return type("Part", (Part,), {})
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        match module, name:
            case "torch._utils", "_rebuild_tensor_v2":
                return lambda storage, offset, size, stride, *_: storage.as_strided(size, stride, offset)
            case "collections", "OrderedDict":
                return dict
            case "torch.jit._pickle", _:  # lists, which it marks with their types
                return lambda value, *_: value
        raise ValueError(f"it names {f'{module}.{name}'!r}, and nothing of an archive is run")

    def persistent_load(self, asked: tuple) -> Tensor:
        _, dtype, key, _, count = asked
        if key not in self.storages:
            record = self.archive.getinfo(f"{self.directory}/data/{key}")
            if record.file_size != count * dtype.itemsize or record.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{record.filename} has {record.file_size} bytes, or is compressed")
            content = bytearray(self.archive.read(record))
            self.storages[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return self.storages[key]


def records(path: Path) -> str | None:
    """The directory of the records in a TorchScript archive; None for another file."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        found = (name.removesuffix("/constants.pkl") for name in archive.namelist() if name.endswith("/constants.pkl"))
        return next(found, None)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of an archive's modules by name, as in its state dict. Damaged bytes may raise anything."""
    directory = records(path)
    with zipfile.ZipFile(path) as archive:
        order = f"{directory}/byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError("its numbers are big-endian")
        return dict(tensors(Reader(archive, directory).load()))


def tensors(part: Part, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a module and the modules in it."""
    if not isinstance(part.state, dict):
        raise ValueError(f"{prefix or 'it'} packs tensors by code of its own, which is not run: {ADVICE}")
    for name, value in part.state.items():
        if isinstance(value, Part):
            yield from tensors(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor):
            yield f"{prefix}{name}", value
