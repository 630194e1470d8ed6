"""Files by torch.save for tests/weights/torch_file_test.cpp: tests/data/pickles.

    pickles.py

NAME.pt is what torch.save wrote (one file as an older or another writer would have), NAME.safetensors the tensors that a
reader must find in it, by their dotted names. The classes that published files name and this Python lacks are made up here.
"""
import collections
import io
import sys
import types
import zipfile
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file
from torch.serialization import _save

OUT = Path(__file__).resolve().parents[2] / "tests/data/pickles"


def write(name, value, expected, **options):
    torch.save(value, OUT / f"{name}.pt", **options)
    expect(name, expected)


def expect(name, tensors):
    save_file({key: tensor.detach().clone().contiguous() for key, tensor in tensors.items()}, OUT / f"{name}.safetensors")


def numbers(*shape, dtype=torch.float32):
    count = int(numpy.prod(shape, dtype=int))
    return (torch.arange(count) % 251 - 100).to(dtype).reshape(shape)


def module():
    """A state_dict(): an OrderedDict with an attribute, parameters and buffers."""
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    for index, value in enumerate(net.state_dict().values()):
        value.copy_(numbers(*value.shape) + index)
    return net


def dtypes():
    names = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "complex64"]
    tensors = {name: numbers(2, 3, dtype=getattr(torch, name)) for name in names}
    return tensors | {"bool": torch.tensor([True, False, True]), "scalar": torch.tensor(0.18215),
                      "count": torch.tensor(77), "empty": torch.empty(0), "hollow": torch.empty(2, 0, 3),
                      "a name with blanks é": torch.ones(1)}


def views():
    base = numbers(4, 6)
    return {"base": base, "transposed": base.t(), "row": base[2], "column": base[:, 3], "steps": base[::2, 1::2],
            "tail": base.flatten()[20:], "permuted": numbers(2, 3, 4).permute(2, 0, 1), "last": base[3, 5],
            "ids": torch.arange(7).expand(1, -1), "channels_last": numbers(2, 3, 4, 5).to(memory_format=torch.channels_last),
            "none of it": base[4:]}


def stand_in(module_name, class_name):
    """A class that pickles under a name of a package that is not here."""
    module = types.ModuleType(module_name)
    made = type(class_name, (), {"__module__": module_name})
    setattr(module, class_name, made)
    for end in range(1, module_name.count(".") + 2):
        part = ".".join(module_name.split(".")[:end])
        sys.modules.setdefault(part, types.ModuleType(part))
    sys.modules[module_name] = module
    return made


def lightning():
    """What Lightning 1.4 wrote: Stable Diffusion 1.x's published layout."""
    callback = stand_in("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    state = module().state_dict()
    scalars = {"best": numpy.float64(0.25), "half": numpy.float32(0.5), "at": numpy.int64(7), "on": numpy.bool_(True)}
    checkpoint = {
        "epoch": 3, "global_step": 875000, "pytorch-lightning_version": "1.4.2", "loss": 0.125, "numpy_loss": numpy.float64(1.5),
        "big": 2**40, "negative": -5, "enormous": 2**70, "done": True, "nothing": None, "raw": b"\x00\xff",
        "state_dict": state, "callbacks": {callback: {"monitor": "val", "best_model_score": torch.tensor(0.5), **scalars}},
        "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]}],
        "lr_schedulers": [], "names": {"a", "b"}, "dtype": torch.float32,
    }
    return checkpoint, state


def textual_inversion():
    """The original repository's embeddings: a module pickled whole, the one class of torch.nn that weights need."""
    vectors = torch.nn.ParameterDict({"*": torch.nn.Parameter(numbers(2, 8))})
    return {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": vectors}, \
        {"string_to_token.*": torch.tensor(265), "string_to_param.*": vectors["*"]}


def rezip(source, name, folder):
    """The same entries by another writer: no zip64 records, no alignment, no byteorder, another folder."""
    with zipfile.ZipFile(OUT / f"{source}.pt") as old, zipfile.ZipFile(OUT / f"{name}.pt", "w", zipfile.ZIP_STORED) as new:
        for info in old.infolist():
            entry = info.filename.split("/", 1)[1]
            if entry in ("data.pkl", "version") or entry.startswith("data/"):
                new.writestr(zipfile.ZipInfo(f"{folder}/{entry}"), old.read(info))


def without_byteorder(name, value, expected):
    """torch 1.6 to 2.0."""
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    import pickle
    _save(value, writer, pickle, 2, True)
    writer.write_end_of_file()
    (OUT / f"{name}.pt").write_bytes(buffer.getvalue())
    expect(name, expected)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    state = module().state_dict()
    for protocol in (2, 3, 4, 5):
        write(f"protocol{protocol}", state, state, pickle_protocol=protocol)
    for protocol in (2, 4):
        write(f"stream{protocol}", state, state, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    write("dtypes", dtypes(), dtypes())
    write("stream-dtypes", dtypes(), dtypes(), _use_new_zipfile_serialization=False)
    write("views", views(), views())
    write("stream-views", views(), views(), _use_new_zipfile_serialization=False)
    write("unsigned", *[{name: numbers(5, dtype=torch.int64).to(getattr(torch, name)) for name in ("uint16", "uint32", "uint64")}] * 2)
    write("parameters", {"weight": torch.nn.Parameter(numbers(2, 2))}, {"weight": numbers(2, 2)})
    checkpoint, tensors = lightning()
    write("lightning", checkpoint, tensors)
    write("lightning4", checkpoint, tensors, pickle_protocol=4)
    inversion, tensors = textual_inversion()
    write("textual-inversion", inversion, tensors)
    webui = {"string_to_token": {"*": 265}, "string_to_param": {"*": numbers(2, 8)}, "name": "cat", "step": 500, "sd_checkpoint": None}
    write("textual-inversion-webui", webui, {"string_to_param.*": numbers(2, 8)})
    hypernetwork = {768: ({"linear.0.weight": numbers(2, 3)}, [numbers(4)]), "step": 10, "name": "h"}
    write("hypernetwork", hypernetwork, {"768.0.linear.0.weight": numbers(2, 3), "768.1.0": numbers(4)})
    without_byteorder("torch16", state, state)
    rezip("dtypes", "rezipped", "another name")
    expect("rezipped", dtypes())
    # Refused by name.
    torch.save({"a": torch.eye(3).to_sparse()}, OUT / "refused-sparse.pt")
    torch.save({"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, OUT / "refused-quantised.pt")
    torch.save(module(), OUT / "refused-module.pt")
    torch.save({"a": torch.ones(1).expand(1000)}, OUT / "refused-expanded.pt")
    torch.save(torch.ones(2), OUT / "refused-bare.pt")
    torch.save({"a": torch.ones(2, device="meta")}, OUT / "refused-meta.pt")
    torch.save({"a": torch.ones(2, dtype=torch.complex64).conj()}, OUT / "refused-conjugate.pt")
    torch.save({"a": torch.ones(2)}, OUT / "refused-protocol1.pt", pickle_protocol=1)
    torch.save({"a": torch.ones(4).to(torch.float8_e4m3fn)}, OUT / "float8.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), OUT / "refused-torchscript.pt")


main()
