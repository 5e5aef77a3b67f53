"""Makes the files of this folder: what torch.save and pickle write, and what a reader must find.

    python make_fixtures.py        # with torch 2.11 and numpy

expected.json maps the path of each value ("a.b.0") to what it is.
"""
import collections
import io
import json
import pickle
import struct
import sys
import zipfile

import numpy as np
import torch


class Custom:
    """A class that a reader does not have."""

    def __init__(self, value):
        self.value = value


Custom.__module__ = "some.package"
sys.modules["some"] = sys.modules["some.package"] = sys.modules[__name__]


def tensors():
    base = torch.arange(24, dtype=torch.float32) * 0.5 - 3
    out = collections.OrderedDict()
    out["base"] = base
    out["view"] = base[4:16].view(3, 4)
    out["transposed"] = base.view(4, 6).t()
    out["strided"] = base[1::5]
    out["expanded"] = torch.tensor([7.5]).expand(2, 3)
    out["parameter"] = torch.nn.Parameter(torch.tensor([[1.0, -2.0]]))
    out["scalar"] = torch.tensor(4)
    out["empty"] = torch.zeros(0, 3)
    for name in ("float64", "float16", "bfloat16", "uint8", "int8", "int16", "int32", "int64",
                 "bool", "complex64", "complex128", "uint16", "uint32", "uint64", "float8_e5m2",
                 "float8_e4m3fn"):
        out[name] = torch.tensor([1, 0, 3]).to(getattr(torch, name))
    return out


def plain():
    shared = [1, 2]
    return {
        "none": None, "true": True, "int": -70000, "byte": 200, "short": 40000,
        "long": 2 ** 40, "negative": -2 ** 62, "huge": 2 ** 80, "float": -1.25e-3,
        "string": "caf\u00e9 \U0001f600 'quoted'\nline", "bytes": bytes(range(250, 256)) + b"ab",
        "list": [1, "two", [3.0]], "tuple": (1, (), (2, 3)), "one": (1,),
        "shared": [shared, shared], "set": {5}, "frozen": frozenset([6]),
        "deque": collections.deque([1, 2, 3], maxlen=3), "counter": collections.Counter(["x"]),
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "default": collections.defaultdict(list, {"k": [1]}),
        1: "int key", (1, 2): "tuple key", "custom": Custom([1, {"x": 2}]),
        "np_float": np.float64(2.5), "np_float32": np.float32(0.5), "np_int": np.int32(-7),
        "np_bool": np.bool_(True), "np_big": np.dtype(">i4").type(5),
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        "big_endian": np.arange(3, dtype=">f8"), "array_bool": np.array([True, False]),
        "objects": np.array(["a", None, 3], dtype=object), "words": np.array(["ab", "c\u00e9"]),
        "zero_dim": np.array(3.5),
    }


def describe(value, path, out):
    if isinstance(value, (torch.Tensor, np.ndarray)) and not (
            isinstance(value, np.ndarray) and value.dtype.kind in "OU"):
        t = torch.from_numpy(np.ascontiguousarray(value).astype(value.dtype.newbyteorder("="))
                             .reshape(value.shape)) if isinstance(value, np.ndarray) else value
        t = t.detach()
        flat = torch.view_as_real(t).flatten() if t.is_complex() else t.flatten()
        out[path] = {"dtype": str(t.dtype)[6:], "shape": list(t.shape),
                     "values": flat.to(torch.float64).tolist()}
    elif isinstance(value, np.ndarray):
        describe(value.tolist(), path, out)
    elif isinstance(value, dict):
        for k, v in value.items():
            describe(v, f"{path}.{k}" if path else str(k), out)
    elif isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        out[path] = {"size": len(value)}
        for i, v in enumerate(value):
            describe(v, f"{path}.{i}", out)
    elif isinstance(value, bytes):
        out[path] = {"bytes": value.hex()}
    elif isinstance(value, Custom):
        out[path] = {"object": "some.package.Custom"}
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2 ** 63:
        out[path] = {"object": "int"}
    else:
        out[path] = value.item() if isinstance(value, np.generic) else value


def swapped(path, to):
    """The file as a big-endian machine would have written it."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith("byteorder"):
                data = b"big"
            elif "/data/" in info.filename:
                data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
            new.writestr(zipfile.ZipInfo(info.filename), data)


def safetensors(tensors, path):
    names = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16",
             "uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
             "bool": "BOOL", "complex64": "C64", "uint16": "U16", "uint32": "U32",
             "uint64": "U64", "float8_e5m2": "F8_E5M2", "float8_e4m3fn": "F8_E4M3"}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, t in tensors.items():
        dtype = str(t.dtype)[6:]
        if dtype not in names:
            continue
        raw = bytes(t.detach().contiguous().clone().untyped_storage()) if t.numel() else b""
        header[name] = {"dtype": names[dtype], "shape": list(t.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


if __name__ == "__main__":
    everything = {"state_dict": tensors(), "plain": plain(), "size": torch.Size([2, 3]),
                  "device": torch.device("cuda", 1), "dtype": torch.float16}
    torch.save(everything, "zip.pt")
    torch.save(everything, "zip_protocol5.pt", pickle_protocol=5)
    torch.save(everything, "legacy.pt", _use_new_zipfile_serialization=False)
    quantised = {
        "w": torch.tensor([1.5, -2.0]),
        "int8": torch.quantize_per_tensor(torch.tensor([0.5, -1.0, 2.0]), 0.1, 3, torch.qint8),
        "channels": torch.quantize_per_channel(torch.tensor([[1.0], [2.0]]),
                                               torch.tensor([0.5, 0.25]).double(),
                                               torch.tensor([0, 1]), 0, torch.quint8),
        "int32": torch.quantize_per_tensor(torch.tensor([1.0]), 0.5, 0, torch.qint32),
    }
    torch.save(quantised, "quantised.pt")
    torch.save(quantised, "quantised_legacy.pt", _use_new_zipfile_serialization=False)
    # Views that are turned around only when they are read, and a weight that is an object.
    numbers = torch.tensor([1 + 2j, -3 + 4j])
    torch.save({"state_dict": {"neg": torch._neg_view(torch.arange(3.0)), "conj": numbers.clone().conj(),
                               "imag": numbers.clone().conj().imag, "sparse": torch.eye(2).to_sparse()}},
               "turned.pt")
    torch.save({"w": torch.tensor([1.5, -2.0]), "v": torch.tensor([[0.25]])}, "native.tmp")
    swapped("native.tmp", "big_endian.pt")
    for protocol in range(6):
        with open(f"plain{protocol}.bin", "wb") as f:
            pickle.dump(plain(), f, protocol=protocol)
    safetensors(tensors(), "safe.bin")
    cycle = [1]
    cycle.append({"self": cycle})
    loop = Custom(None)
    loop.value = loop
    with open("cycle.bin", "wb") as f:
        pickle.dump({"list": cycle, "object": loop}, f)
    expected = {"tensors": {}, "plain": {}}
    describe(tensors(), "", expected["tensors"])
    describe(plain(), "", expected["plain"])
    with open("expected.json", "w") as f:
        json.dump(expected, f, indent=0)
    import os
    os.remove("native.tmp")
