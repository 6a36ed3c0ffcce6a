"""A recipe applied: floating-point model in, quantized model out, by ONNX Runtime's own quantizers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.toolkit import failed, scratch, steps, translated

from .. import backend, files, graph
from . import blocks, float8, weights
from .recipes import DYNAMIC, Recipe

if TYPE_CHECKING:
    from modelexport.contract import Arrays

#: ONNX Runtime's DynamicQuantizeMatMul and MatMulNBits compute products in int8 at this accuracy level
INT8_COMPUTE = 4


def quantize(
    model: Any, recipe: Recipe, left: Collection[str] = (), excluded: Collection[str] = (), ranges: Any = None
) -> Any:
    """A quantized copy of `model`.

    Nodes `left` stay in float32, or become blockwise (`recipe.fallback`); nodes `excluded` stay in float32.
    `ranges` are those of `calibrate`, for a static recipe. Raises ConversionError where it can't be done.
    """
    copied, untouched = graph.copy(model), {*left, *excluded}
    if recipe.per_channel and recipe.kind in ("static", "dynamic"):
        untouched |= _stacked(copied)
    if recipe.kind == "static":
        untouched |= _clipping(copied)
        untouched |= set() if recipe.products else _variable(copied)
    if recipe.writer != "onnxruntime" and recipe.op_types:
        untouched |= {node.name for node in copied.graph.node if node.op_type not in recipe.op_types}
    with _translated(recipe):
        quantized = _written(copied, recipe, left, untouched, ranges)
    # Where ONNX Runtime knows shapes it fuses sums into SkipLayerNormalization, whose kernel is slow on CPUs.
    del quantized.graph.value_info[:]
    return quantized


def _written(model: Any, recipe: Recipe, left: Collection[str], untouched: Collection[str], ranges: Any) -> Any:
    if recipe.writer == "float8":
        return float8.write(model, untouched, ranges)
    if recipe.writer == "blocks":
        return blocks.write(model, untouched, recipe.block_size)
    if recipe.kind == "static":
        return _static(model, recipe, untouched, ranges)
    if recipe.embeddings:
        weights.quantize_rows(model, untouched)
    if recipe.kind == "dynamic":
        if left and recipe.fallback == "blockwise":
            model = _blockwise(model, recipe, left)
        return _dynamic(model, recipe, untouched)
    if recipe.kind == "blockwise":
        wanted = "MatMul" in (recipe.op_types or ("MatMul",))
        model = _blockwise(model, recipe, [n.name for n in _products(model) if wanted and n.name not in untouched])
    weights.fold(model, untouched, recipe.op_types or None)
    return model


def _products(model: Any) -> list[Any]:
    return [node for node, *_ in graph.Graph(model).weighted() if node.op_type == "MatMul"]


def _stacked(model: Any) -> set[str]:
    """The products with stacks of matrices: ONNX Runtime takes no scale a channel for these."""
    layers = graph.Graph(model)
    products = [(node, layers.initializers[node.input[index]].dims) for node, index, _ in layers.weighted()]
    return {node.name for node, dims in products if node.op_type == "MatMul" and len(dims) > 2}


def _variable(model: Any) -> set[str]:
    """The products of which no side is a weight."""
    weighted = {node.name for node, *_ in graph.Graph(model).weighted()}
    return {n.name for n in model.graph.node if n.op_type in ("MatMul", "Gemm") and n.name not in weighted}


def _clipping(model: Any) -> set[str]:
    """The activations whose input is an output of the model or read in a branch as well.

    ONNX Runtime (1.31) gives it the activation's range, as if nothing but the activation read it.
    """
    uses = graph.Graph(model).uses()
    seen = Counter(name for node in model.graph.node for name in node.input)
    clips = [node for node in model.graph.node if node.op_type in ("Relu", "Clip")]
    return {node.name for node in clips if uses[node.input[0]] > seen[node.input[0]] == 1}


def _dynamic(model: Any, recipe: Recipe, left: Collection[str]) -> Any:
    from onnxruntime.quantization import quantize_dynamic

    kinds = recipe.op_types or DYNAMIC
    others = [node.name for node in model.graph.node if node.op_type not in kinds]
    with scratch("quantize") as folder:
        place = folder / files.FILE
        quantize_dynamic(
            _taken(model, folder),
            place,
            op_types_to_quantize=[*kinds, *(["MatMul"] if "Gemm" in kinds else [])],
            per_channel=recipe.per_channel,
            reduce_range=recipe.reduce_range,
            weight_type=_type(recipe.weight),
            nodes_to_exclude=_as_products(model, {*left, *others}),
            use_external_data_format=_large(model),
            extra_options={"DefaultTensorType": 1, "MatMulConstBOnly": True},
        )
        return files.load(place)


def _as_products(model: Any, names: Collection[str]) -> list[str]:
    """The nodes by the names that they have when ONNX Runtime quantizes: first, it writes each Gemm as a MatMul,
    with a name of its own, and an Add."""
    gemms = [node.name for node in model.graph.node if node.op_type == "Gemm" and node.name in names]
    return [*names, *(f"{name}_MatMul" for name in gemms)]


def _blockwise(model: Any, recipe: Recipe, nodes: Iterable[str]) -> Any:
    """MatMuls by name, their weights in blocks of `block_size` along the inputs."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    wanted = set(nodes)
    quantizer = MatMulNBitsQuantizer(
        model,
        bits=recipe.bits,
        block_size=recipe.block_size,
        is_symmetric=True,
        accuracy_level=INT8_COMPUTE,
        nodes_to_exclude=[node.name for node in model.graph.node if node.name not in wanted],
    )
    quantizer.process()
    return quantizer.model.model


def _static(model: Any, recipe: Recipe, left: Collection[str], ranges: Any) -> Any:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, quantize_static, save_tensors_data

    with scratch("quantize") as folder:
        cache, place = folder / "ranges.json", folder / files.FILE
        save_tensors_data(ranges, cache)
        quantize_static(
            _taken(model, folder),
            place,
            None,
            quant_format=QuantFormat.QOperator if recipe.format == "qoperator" else QuantFormat.QDQ,
            op_types_to_quantize=list(recipe.op_types),
            per_channel=recipe.per_channel,
            reduce_range=recipe.reduce_range,
            activation_type=_type(recipe.activation),
            weight_type=_type(recipe.weight),
            nodes_to_exclude=list(left),
            use_external_data_format=_large(model),
            calibrate_method=getattr(CalibrationMethod, _METHODS[recipe.calibrator]),
            calibration_cache_path=cache,
            extra_options={
                "DefaultTensorType": 1,
                "ActivationSymmetric": recipe.symmetric,
                "WeightSymmetric": recipe.weight == "int8",
                "QuantizeBias": recipe.bias,
                "AddQDQPairToWeight": recipe.weight_pairs,
                "OpTypesToExcludeOutputQuantization": [] if recipe.outputs else list(recipe.op_types),
            },
        )
        return files.load(place)


_METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}


def _taken(model: Any, folder: Path) -> Any:
    """What ONNX Runtime's quantizers take: the model, or a file of it where a message can't hold its weights."""
    if not _large(model):
        return model
    file = folder / "taken.onnx"
    files.save(model, file)
    return file


def _large(model: Any) -> bool:
    return files.weight_bytes(model) > files.INLINE_BYTES


def _type(name: str) -> Any:
    from onnxruntime.quantization import QuantType

    kinds = {"uint8": "QUInt8", "int8": "QInt8", "uint16": "QUInt16", "int16": "QInt16"}
    return getattr(QuantType, kinds[name])


# --------------------------------------------------------------------------------------- ranges


def calibrate(model: Any, recipe: Recipe, samples: Iterable[Arrays]) -> Any:
    """The range of every activation over `samples`, as onnxruntime's TensorsData.

    One sample at a time goes through the model and into minima or histograms, so memory does not grow with
    their number, and samples may differ in shape.
    """
    from onnxruntime.quantization import CalibrationMethod, create_calibrator
    from onnxruntime.quantization.calibrate import TensorsData

    method = getattr(CalibrationMethod, _METHODS[recipe.calibrator])
    extra: dict[str, Any] = {"symmetric": recipe.symmetric}
    if recipe.calibrator == "percentile":
        extra["percentile"] = recipe.percentile
    with _translated(recipe), scratch("calibrate") as folder:
        file = folder / "calibrated.onnx"
        files.save(model, file)
        calibrator = create_calibrator(
            file,
            list(recipe.op_types) or _quantizable(),
            augmented_model_path=str(folder / "augmented.onnx"),
            calibrate_method=method,
            use_external_data_format=_large(model),
            extra_options=extra,
        )
        for sample in steps(samples, "calibrate"):
            calibrator.collect_data(_One(sample))
        ranges = calibrator.compute_data()
    return TensorsData(method, {name: ranges[name] for name in ranges.keys()})  # noqa: SIM118


class _One:
    """A CalibrationDataReader with one sample in it."""

    def __init__(self, sample: Arrays) -> None:
        self._samples: Iterator[Arrays] = iter([sample])

    def get_next(self) -> Arrays | None:
        return next(self._samples, None)


def _quantizable() -> list[str]:
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QLinearOpsRegistry, *QDQRegistry})


# --------------------------------------------------------------------------------------- errors


@contextmanager
def _translated(recipe: Recipe) -> Iterator[None]:
    """Errors of the quantizers as ConversionErrors, and what they say kept quiet."""
    hint = "leave operators out with -k exclude=…, or try another --mode; --debug shows the whole trace"
    with backend.quantizing(), translated(failed(f"ONNX Runtime can't quantize this model ({recipe.mode})", hint)):
        yield
