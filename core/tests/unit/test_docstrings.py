"""The examples in core's docstrings run."""

import doctest
import importlib
import json
import pkgutil
import shutil
from pathlib import Path

import modelexport
import pytest

#: modules that have examples; a new one is found by the first test
WITH_EXAMPLES = (
    "contract.hooks", "contract.tensors", "errors", "toolkit.failures", "toolkit.operators", "toolkit.patterns",
    "toolkit.sizes", "toolkit.snippets", "toolkit.wording", "work.plan",
)  # fmt: skip


def modules():
    package = Path(modelexport.__file__).parent
    for module in pkgutil.walk_packages([str(package)], "modelexport."):
        text = (package / Path(*module.name.split(".")[1:])).with_suffix(".py")
        if text.is_file() and ">>> " in text.read_text(encoding="utf-8"):
            yield module.name.removeprefix("modelexport.")


def test_every_module_with_examples_is_tested():
    assert sorted(modules()) == sorted(WITH_EXAMPLES)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_run(name, tmp_path):
    import numpy
    from modelexport import contract, toolkit
    from modelexport.contract import Artifact, TensorSpec

    (tmp_path / "folder").mkdir()
    (tmp_path / "model.json").write_text("[]")
    artifact = Artifact(tmp_path, "toy", "model.json", (TensorSpec("x", "float32", (3,)),), ())
    module = importlib.import_module(f"modelexport.{name}")
    known = {each: getattr(package, each) for package in (toolkit, contract) for each in package.__all__}
    known |= {"Path": Path, "json": json, "shutil": shutil, "numpy": numpy}
    known |= {"folder": tmp_path / "folder", "artifact": artifact}
    results = doctest.testmod(module, extraglobs={k: v for k, v in known.items() if k not in vars(module)})
    assert results.attempted
    assert results.failed == 0
