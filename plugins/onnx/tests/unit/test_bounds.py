"""Models with more nodes than ONNX Runtime opens in good time, and files that are no models."""

import pytest
from modelexport.errors import RuntimeFailure
from modelexport_onnx import bounds


def field(number, content):
    key, size = number << 3 | 2, len(content)
    return _varint(key) + _varint(size) + content


def _varint(value):
    digits = []
    while True:
        digits.append(value & 127 | (128 if value > 127 else 0))
        value >>= 7
        if not value:
            return bytes(digits)


def node(kind, domain="", graph=b""):
    inner = field(5, field(1, b"body") + field(6, graph)) if graph else b""
    return field(1, b"x") + field(2, b"y") + field(4, kind.encode()) + inner + field(7, domain.encode())


def checked(tmp_path, data):
    (tmp_path / "model.onnx").write_bytes(data)
    bounds.check(tmp_path / "model.onnx")


def test_as_many_nodes_as_are_allowed_and_one_more(tmp_path):
    nodes = field(1, node("Relu")) * bounds.NODES
    checked(tmp_path, b"\x08\x09" + field(7, nodes))
    with pytest.raises(RuntimeFailure, match=r"model\.onnx has more than 100000 nodes"):
        checked(tmp_path, b"\x08\x09" + field(7, nodes + field(1, node("Relu"))))


def test_nodes_of_graphs_within_nodes_count(tmp_path):
    body = field(1, node("Relu")) * (bounds.NODES // 2)
    checked(tmp_path, field(7, field(1, node("If", graph=body))))
    with pytest.raises(RuntimeFailure, match="has more than"):
        checked(tmp_path, field(7, field(1, node("If", graph=body)) * 2))


def test_functions_count_at_each_call(tmp_path):
    """Each calls the one below twice: 40 short functions are a million million nodes."""

    def function(level):
        below = node("Relu") if level == 0 else node(f"f{level - 1}", "mine")
        return field(25, field(1, f"f{level}".encode()) + field(7, below) * 2 + field(10, b"mine"))

    def model(levels):
        functions = b"".join(function(level) for level in range(levels))
        return field(7, field(1, node(f"f{levels - 1}", "mine"))) + functions

    checked(tmp_path, model(10))
    with pytest.raises(RuntimeFailure, match="has more than"):
        checked(tmp_path, model(30))


NAMESAKES = {
    "an overload": (b"mine", b"big", b"", b"mine", b"big"),
    "an overload, before": (b"mine", b"", b"big", b"mine", b""),
    "ONNX's own domain": (b"ai.onnx", b"", b"", b"", b""),
    "ONNX's own domain, left out": (b"", b"", b"other", b"ai.onnx", b""),
    "the same twice": (b"mine", b"", b"", b"mine", b""),
}


@pytest.mark.parametrize("small_first", [True, False], ids=["small first", "small last"])
@pytest.mark.parametrize("names", NAMESAKES.values(), ids=NAMESAKES)
def test_a_large_function_does_not_hide_behind_a_namesake(names, small_first, tmp_path):
    domain, overload, other, calling, called = names

    def function(size, overload):
        return field(25, field(1, b"f") + field(10, domain) + field(7, node("Relu")) * size + field(13, overload))

    functions = [function(1, other), function(bounds.NODES, overload)]
    call = field(2, b"y") + field(4, b"f") + field(7, calling) + field(8, called)
    with pytest.raises(RuntimeFailure, match="has more than"):
        checked(tmp_path, field(7, field(1, call)) + b"".join(functions[:: 1 if small_first else -1]))


def test_other_overloads_of_a_function_do_not_count(tmp_path):
    large = field(25, field(1, b"f") + field(10, b"mine") + field(7, node("Relu")) * bounds.NODES)
    small = field(25, field(1, b"f") + field(10, b"mine") + field(7, node("Relu")) + field(13, b"small"))
    call = field(4, b"f") + field(7, b"mine") + field(8, b"small")
    checked(tmp_path, field(7, field(1, call)) + large + small)


def test_functions_that_call_themselves_end(tmp_path):
    function = field(25, field(1, b"f") + field(7, node("f", "mine")) + field(10, b"mine"))
    with pytest.raises(RuntimeFailure, match="nested deeper than"):
        checked(tmp_path, field(7, field(1, node("f", "mine"))) + function)


def test_graphs_nested_without_end(tmp_path):
    graph = field(1, node("Relu"))
    for _ in range(500):
        graph = field(1, node("If", graph=graph))
    with pytest.raises(RuntimeFailure, match="nested deeper than"):
        checked(tmp_path, field(7, graph))


@pytest.mark.parametrize(
    "data", [b"", b"\x3a\xff\xff\xff\xff\x0f", b"\xff" * 20, b"\x3a\x05ab", b"\x3b\x00", field(7, b"\x0a\x7f")]
)
def test_what_is_damaged_is_refused(data, tmp_path):
    with pytest.raises(RuntimeFailure, match=r"ONNX Runtime can't load model\.onnx"):
        checked(tmp_path, data)


def test_weights_are_passed_over(tmp_path):
    initializer = field(5, field(8, b"w") + field(9, bytes(range(256)) * 1000))
    checked(tmp_path, b"\x08\x09" + field(7, field(1, node("Relu")) + initializer) + field(8, b"\x0a\x00"))
