"""`.pt2` files as a stranger might send them: each would leave a marker behind when it is loaded or run.

    harmless(path)                      a program as torch saves it
    ATTACKS["NAME"](members, marker)    the members of one that is armed; `marker` is a path that it makes
    write(path, members)                a file of those members
    mutated(members, seed)              one of endlessly many: a few fields of a program's JSON, changed

`members` is a list of names and contents, without the folder that an archive has them in. REAL names the attacks
that a torch which trusts the file does light, so that a test which finds no marker proves something.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Members = list[tuple[str, bytes]]

PROGRAM, SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"


class Bomb:
    """A pickle of it makes a folder when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.marker,)


def harmless(path: Path) -> Path:
    """A program with a dynamic batch, an expression of it, a parameter, a constant and a nested input."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)
            self.shift = torch.tensor([1.0, 2.0])

        def forward(self, x: Any, more: Any) -> Any:
            return self.layer(x) + self.shift + more["y"], x.new_zeros(2 * x.shape[0] + 1)

    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = {"x": {0: batch}, "more": {"y": {0: batch}}}
    example = (torch.ones(3, 4), {"y": torch.ones(3, 2)})
    torch.export.save(torch.export.export(Net().eval(), example, dynamic_shapes=shapes), path)
    return path


def read(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return [(name.partition("/")[2], archive.read(name)) for name in archive.namelist()]


def write(path: Path, members: Members, folder: str = "model/", **options: Any) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", **options) as archive:
        warnings.simplefilter("ignore", UserWarning)  # of two members of one name
        for name, content in members:
            archive.writestr(folder + name, content)
    return path


def pickled(value: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def python(marker: Path) -> str:
    """An expression of Python that makes the marker."""
    return f"__import__('os').mkdir('{marker}')"


def with_json(members: Members, name: str, change: Callable[[Any], None]) -> Members:
    """The members with one of JSON changed in place."""
    content = json.loads(dict(members)[name])
    change(content)
    return replaced(members, name, json.dumps(content).encode())


def replaced(members: Members, name: str, content: bytes) -> Members:
    return [(own, content if own == name else old) for own, old in members]


# --------------------------------------------------------------------------------------- attacks

Attack = Callable[[Members, Path], Members]
ATTACKS: dict[str, Attack] = {}
REAL: set[str] = set()


def attack(name: str, real: bool = True) -> Callable[[Attack], Attack]:
    def keep(build: Attack) -> Attack:
        ATTACKS[name] = build
        if real:
            REAL.add(name)
        return build

    return keep


def _in_program(name: str, change: Callable[[Any, Path], None], real: bool = True) -> None:
    """An attack that changes a program's description."""
    attack(name, real)(lambda members, marker: with_json(members, PROGRAM, lambda p: change(p, marker)))


def _sizes(program: Any, text: str) -> None:
    for value in program["graph_module"]["graph"]["sym_int_values"].values():
        value["as_expr"] = {"expr_str": text}


def _call(program: Any, target: str, *arguments: Any) -> None:
    """One more node, first of all, whose result nobody uses."""
    inputs = [{"name": "", "arg": argument, "kind": 1} for argument in arguments]
    node = {"target": target, "inputs": inputs, "outputs": [{"as_none": True}], "metadata": {}, "name": "extra"}
    program["graph_module"]["graph"]["nodes"].insert(0, node)


def _renamed(program: Any, old: str, new: str) -> Any:
    """The program with a name exchanged everywhere."""
    if isinstance(program, dict):
        return {_renamed(key, old, new): _renamed(value, old, new) for key, value in program.items()}
    if isinstance(program, list):
        return [_renamed(value, old, new) for value in program]
    return new if program == old else program


def _signature(program: Any) -> Any:
    return program["graph_module"]["module_call_graph"][0]["signature"]


def _nest(kind: str, context: Any) -> str:
    return json.dumps([1, {"type": kind, "context": context, "children_spec": []}])


# the five of old: expressions, pickled objects, the layout before torch 2.8, two of a name, names in capitals
_in_program("sympify", lambda program, marker: _sizes(program, python(marker)))
_in_program("sympify-call", lambda program, marker: _sizes(program, f"Add(Integer(1), {python(marker)} or 1)"))
_in_program("sympify-symbol", lambda program, marker: _sizes(program, f"Symbol({python(marker)} or 's0')"))
_in_program("sympify-tuple", lambda program, marker: _sizes(program, f"({python(marker)}, Integer(1))[1]"))
_in_program("sympify-format", lambda program, marker: _sizes(program, f'Symbol(f"s{{{python(marker)}}}")'))
_in_program(
    "sympify-nested",
    lambda program, marker: _sizes(program, f"sympify({python(marker)!r})"),
)
_in_program(
    "sympify-attribute",
    lambda program, marker: _sizes(
        program, f"Symbol.__new__.__globals__['__builtins__']['eval']({python(marker)!r})"
    ),
)


def _object(config: str, name: str, pickle: Callable[[Any], bytes]) -> Attack:
    def build(members: Members, marker: Path) -> Members:
        entry = {"path_name": name, "is_param": False, "use_pickle": True, "tensor_meta": None}
        changed = with_json(members, config, lambda c: c["config"].update(o=entry))
        return [*changed, (f"{config.rpartition('/')[0]}/{name}", pickle(Bomb(marker)))]

    return build


attack("custom-object")(_object(WEIGHTS, "custom_obj_0", pickled))
attack("custom-object-of-torch", real=False)(_object(CONSTANTS, "custom_obj_0", pickled))
attack("opaque-object")(_object(CONSTANTS, "opaque_obj_0", lambda bomb: pickle.dumps(bomb, protocol=2)))


def _pickled_payload(config: str, folder: str) -> Attack:
    def build(members: Members, marker: Path) -> Members:
        found = json.loads(dict(members)[config])["config"]
        name = next(iter(found))
        changed = with_json(members, config, lambda c: c["config"][name].update(use_pickle=True))
        return replaced(changed, f"{folder}/{found[name]['path_name']}", pickled(Bomb(marker)))

    return build


attack("pickled-weight")(_pickled_payload(WEIGHTS, "data/weights"))
attack("pickled-constant")(_pickled_payload(CONSTANTS, "data/constants"))
attack("weight-in-constants")(
    lambda members, marker: [
        *with_json(
            members,
            CONSTANTS,
            lambda c: c["config"]["shift"].update(path_name="tensor_9/../custom_obj_9", use_pickle=True),
        ),
        ("data/constants/tensor_9/../custom_obj_9", pickled(Bomb(marker))),
    ]
)


@attack("samples")
def samples(members: Members, marker: Path) -> Members:
    return replaced(members, SAMPLES, pickled(Bomb(marker)))


@attack("samples-of-old")
def samples_of_old(members: Members, marker: Path) -> Members:
    """A pickle that is no archive, as torch before 1.6 wrote them."""
    import torch

    stream = io.BytesIO()
    torch.save(Bomb(marker), stream, _use_new_zipfile_serialization=False)
    return replaced(members, SAMPLES, stream.getvalue())


@attack("samples-twice", real=False)
def samples_twice(members: Members, marker: Path) -> Members:
    """The archive within the archive has two pickles: the safe way must not see the other one."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)
        for content in (dict(members)[SAMPLES], pickled(Bomb(marker))):
            with zipfile.ZipFile(io.BytesIO(content)) as one:
                for name in one.namelist():
                    archive.writestr("archive/" + name.partition("/")[2], one.read(name))
    return replaced(members, SAMPLES, stream.getvalue())


def _legacy(suffix: str) -> Attack:
    def build(members: Members, marker: Path) -> Members:
        empty, bomb = pickled({}), pickled(Bomb(marker))
        return [
            ("version", b"8.20"),
            ("serialized_exported_program.json", dict(members)[PROGRAM]),
            (f"serialized_state_dict.{suffix}", bomb),
            (f"serialized_constants.{suffix}", empty),
            ("serialized_example_inputs.pt", pickled(((), {}))),
        ]

    return build


attack("legacy-json")(_legacy("json"))
attack("legacy-pt")(_legacy("pt"))
attack("legacy-weights")(lambda members, marker: [*members, ("data/weights/model.pt", pickled(Bomb(marker)))])
attack("legacy-constants")(lambda members, marker: [*members, ("data/constants/model.pt", pickled(Bomb(marker)))])


@attack("twice")
def twice(members: Members, marker: Path) -> Members:
    """Python's zipfile reads the last member of a name, torch the first."""
    return [(SAMPLES, pickled(Bomb(marker))), *members]


@attack("program-twice")
def program_twice(members: Members, marker: Path) -> Members:
    armed = ATTACKS["sympify"](members, marker)
    return [*members, (PROGRAM, dict(armed)[PROGRAM])]


@attack("capitals")
def capitals(members: Members, marker: Path) -> Members:
    """torch finds members whatever their case."""
    bomb = [("data/sample_inputs/model.PT", pickled(Bomb(marker)))]
    return [*bomb, *(member for member in members if member[0] != SAMPLES)]


@attack("capitals-twice")
def capitals_twice(members: Members, marker: Path) -> Members:
    return [("data/Sample_Inputs/model.pt", pickled(Bomb(marker))), *members]


@attack("second-program")
def second_program(members: Members, marker: Path) -> Members:
    """torch loads every program of an archive, and gives the one of the name `model`."""
    armed = dict(ATTACKS["samples"](members, marker))
    copies = [(name.replace("model", "other", 1) if "models/" not in name else "models/other.json") for name in
              (SAMPLES, WEIGHTS, CONSTANTS, PROGRAM)]  # fmt: skip
    second = [armed[name] for name in (SAMPLES, WEIGHTS, CONSTANTS, PROGRAM)]
    return [*members, *zip(copies, second, strict=True)]


# what torch writes into code of its own, or looks up by name
_in_program("guard", lambda program, marker: program.update(guards_code=[f"{python(marker)} is None"]))
_in_program(
    "guard-hidden",
    lambda program, marker: program.update(guards_code=[f"L['x'].size()[{python(marker)} or 0] >= 0"]),
)
_in_program(
    "hub",
    lambda program, marker: _call(program, "torch.serialization.load", {"as_string": str(marker)}),
    real=False,
)
_in_program(
    "makedirs",
    lambda program, marker: _call(program, "torch.serialization.os.mkdir", {"as_string": str(marker)}),
    real=False,
)
_in_program(
    "operator-as-argument",
    lambda program, marker: _call(
        program, "_operator.call", {"as_operator": "torch.serialization.os.mkdir"}, {"as_string": str(marker)}
    ),
    real=False,
)
_in_program(
    "library",
    lambda program, marker: _call(program, "torch.ops.load_library", {"as_string": str(marker)}),
    real=False,
)


def _from_file(program: Any, marker: Path) -> None:
    """The operator makes the file where there is none."""
    values = {"filename": {"as_string": str(marker)}, "shared": {"as_bool": True}, "size": {"as_int": 4}}
    inputs = [{"name": name, "arg": value, "kind": 1} for name, value in values.items()]
    graph = program["graph_module"]["graph"]
    graph["tensor_values"]["made"] = {**graph["tensor_values"]["c_shift"], "sizes": [{"as_int": 4}]}
    node = {"target": "torch.ops.aten.from_file.default", "inputs": inputs, "metadata": {}, "name": "made"}
    graph["nodes"].insert(0, {**node, "outputs": [{"as_tensor": {"name": "made"}}]})


_in_program("from-file", _from_file)


@attack("name")
def name(members: Members, marker: Path) -> Members:
    """Names of nodes stand in the function that torch compiles, and defaults of its arguments are evaluated."""
    program = json.loads(dict(members)[PROGRAM])
    changed = _renamed(program, "more_y", f"more_y={python(marker)}")
    return replaced(members, PROGRAM, json.dumps(changed).encode())


@attack("parameter")
def parameter(members: Members, marker: Path) -> Members:
    """torch writes getattr(self, "…") of a parameter whose name is no name."""
    odd = f'layer.weight", 0) or getattr(__import__("os"), "mkdir")("{marker}") or getattr(self, "training'
    program = _renamed(json.loads(dict(members)[PROGRAM]), "layer.weight", odd)
    weights = _renamed(json.loads(dict(members)[WEIGHTS]), "layer.weight", odd)
    return replaced(
        replaced(members, PROGRAM, json.dumps(program).encode()), WEIGHTS, json.dumps(weights).encode()
    )


_in_program(
    "arguments",
    lambda program, marker: _signature(program).update(forward_arg_names=["x", f"more={python(marker)}"]),
    real=False,
)
_in_program(
    "enum",
    lambda program, marker: _signature(program).update(
        out_spec=_nest("builtins.dict", json.dumps([{"__enum__": True, "fqn": f"{marker.stem}:X", "name": "X"}]))
    ),
)
_in_program(
    "default-dict",
    lambda program, marker: _signature(program).update(
        out_spec=_nest(
            "collections.defaultdict",
            {"default_factory_module": marker.stem, "default_factory_name": "X", "dict_context": "[]"},
        )
    ),
)
#: these import the module of the marker's name: the test puts one there that makes the marker
IMPORTS = {"enum", "default-dict"}


# what takes for ever, or all memory
_in_program(
    "tower", lambda program, marker: _sizes(program, "Pow(Integer(9), Pow(Integer(9), Integer(99)))"), False
)
_in_program("shift", lambda program, marker: _sizes(program, "LShift(Integer(1), Integer(99999999999))"), False)
_in_program("expansion", lambda program, marker: _sizes(program, "*".join(["(s0+u1+u2+u3+u4)"] * 30)), False)
_in_program("deep", lambda program, marker: _sizes(program, "-" * 15000 + "1"), False)
_in_program(
    "counter",
    lambda program, marker: program["range_constraints"].update({"u99999999999": {"min_val": 0, "max_val": 1}}),
    False,
)


@attack("vast", real=False)
def vast(members: Members, marker: Path) -> Members:
    """A tensor of many sizes and no bytes, which torch makes out of nothing."""

    def change(config: Any) -> None:
        config["config"]["layer.weight"]["tensor_meta"]["sizes"] = [{"as_int": 1 << 20}] * 2

    return replaced(with_json(members, WEIGHTS, change), "data/weights/weight_0", b"")


# --------------------------------------------------------------------------------------- archives that are none


def compressed(path: Path, members: Members) -> Path:
    return write(path, members, compression=zipfile.ZIP_DEFLATED)


def in_two_folders(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for index, (member, content) in enumerate(members):
            archive.writestr(f"{'model' if index else 'other'}/{member}", content)
    return path


def led_out(path: Path, members: Members) -> Path:
    return write(path, [*members, ("extra/../../out", b"x")])


def absolute(path: Path, members: Members) -> Path:
    return write(path, [*members, ("/etc/passwd", b"x")])


def behind_others(path: Path, members: Members) -> Path:
    """Bytes before the archive: Python's reader looks for the offset, others don't."""
    write(path, members)
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    return path


def before_others(path: Path, members: Members) -> Path:
    write(path, members)
    path.write_bytes(path.read_bytes() + b"more")
    return path


def commented(path: Path, members: Members) -> Path:
    """The end of another directory, in the comment at the end of this one."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = b"PK\x05\x06" + bytes(18)
        for member, content in members:
            archive.writestr(f"model/{member}", content)
    return path


def renamed_before(path: Path, members: Members) -> Path:
    """A member has another name in its header than in the directory."""
    write(path, members)
    path.write_bytes(path.read_bytes().replace(b"model/byteorder", b"model/bytebrder", 1))
    return path


def overlapping(path: Path, members: Members) -> Path:
    """A member lies where another does."""
    write(path, members)
    data = bytearray(path.read_bytes())
    first = struct.unpack_from("<L", data, len(data) - 6)[0]
    second = data.index(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    path.write_bytes(data)
    return path


def with_two_ends(path: Path, members: Members) -> Path:
    """An end of the large kind that is not the one the small end means."""
    write(path, members)
    data = path.read_bytes()
    end = data[-22:]
    count, size, offset = struct.unpack_from("<HLL", end, 10)
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count - 1, count - 1, size, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(data) - 22, 1)
    path.write_bytes(data[:-22] + wide + locator + end)
    return path


def encrypted(path: Path, members: Members) -> Path:
    write(path, members)
    data = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1
    path.write_bytes(data)
    return path


#: archives in which two readers may see two things
ODD = (
    *(compressed, in_two_folders, led_out, absolute, behind_others, before_others, commented, renamed_before),
    *(overlapping, with_two_ends, encrypted),
)


# --------------------------------------------------------------------------------------- mutations


def mutated(members: Members, seed: int, marker: Path) -> Members:
    """The members with one to three fields of their JSON changed: to values of others, or to hostile ones.

    Most keep their type, so that the checks behind the first are reached as well.
    """
    draw = random.Random(seed)
    member = draw.choice((PROGRAM, PROGRAM, PROGRAM, WEIGHTS, CONSTANTS))

    def change(content: Any) -> None:
        for _ in range(draw.randint(1, 3)):
            places = list(_places(content))
            if not places:
                return
            holder, key = draw.choice(places)
            values = [*_hostile(marker), *(holder[key] for holder, key in draw.choices(places, k=40))]
            alike = [value for value in values if type(value) is type(holder[key])]
            value = json.loads(json.dumps(draw.choice(alike if alike and draw.random() < 0.9 else values)))
            if isinstance(value, str) and isinstance(holder, dict) and draw.random() < 0.1:
                holder[value] = holder.pop(key)
            elif draw.random() < 0.05:
                del holder[key]
            else:
                holder[key] = value

    return with_json(members, member, change)


def _hostile(marker: Path) -> list[Any]:
    code = python(marker)
    expressions = ("Pow(Integer(9),Integer(9999999))", "s0.__class__", f"Symbol({code})", f"L['x'].size()[{code}]")
    names = ("torch.ops.load_library", "torch.ops.aten.add.Tensor", "torch.hub.load", "_operator.call", "class")
    paths = ("../x", "custom_obj_0", "weight_0/../weight_1", "/dev/zero", str(marker))
    texts = ("", "s" * 30_000, "\ud800", "\n", '"', "\\", "None", "é", _nest("builtins.dict", '["\\"]'))
    values = (None, True, -1, 0, 1 << 62, 1 << 70, 1e308, [], {}, [[[[]]]], {"as_int": 3})
    return [code, f"x={code}", *expressions, *names, *paths, *texts, *values]


def _places(content: Any) -> Any:
    """Every field and entry of a JSON value, with what holds it."""
    if isinstance(content, (dict, list)):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield content, key
            yield from _places(value)
