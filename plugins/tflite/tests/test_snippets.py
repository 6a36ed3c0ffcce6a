"""Programs to start from: C++ compiled against the declarations of the C API, the others parsed."""

import shutil
import subprocess

import modelexport as mx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("litert_torch")

from modelexport import plugins  # noqa: E402
from torch import nn  # noqa: E402

#: what TensorFlow's tensorflow/lite/c/c_api.h declares, of what the program uses
HEADER = """
#include <stddef.h>
#include <stdint.h>
extern "C" {
typedef enum { kTfLiteOk = 0, kTfLiteError = 1 } TfLiteStatus;
struct TfLiteModel; struct TfLiteInterpreter; struct TfLiteInterpreterOptions;
struct TfLiteSignatureRunner; struct TfLiteTensor;
TfLiteModel* TfLiteModelCreateFromFile(const char* model_path);
void TfLiteModelDelete(TfLiteModel* model);
TfLiteInterpreterOptions* TfLiteInterpreterOptionsCreate();
void TfLiteInterpreterOptionsDelete(TfLiteInterpreterOptions* options);
void TfLiteInterpreterOptionsSetNumThreads(TfLiteInterpreterOptions* options, int32_t num_threads);
TfLiteInterpreter* TfLiteInterpreterCreate(const TfLiteModel* model, const TfLiteInterpreterOptions* options);
void TfLiteInterpreterDelete(TfLiteInterpreter* interpreter);
TfLiteSignatureRunner* TfLiteInterpreterGetSignatureRunner(const TfLiteInterpreter*, const char* signature_key);
TfLiteStatus TfLiteSignatureRunnerResizeInputTensor(TfLiteSignatureRunner*, const char*, const int*, int32_t);
TfLiteStatus TfLiteSignatureRunnerAllocateTensors(TfLiteSignatureRunner* signature_runner);
TfLiteTensor* TfLiteSignatureRunnerGetInputTensor(TfLiteSignatureRunner*, const char* input_name);
TfLiteStatus TfLiteSignatureRunnerInvoke(TfLiteSignatureRunner* signature_runner);
const TfLiteTensor* TfLiteSignatureRunnerGetOutputTensor(const TfLiteSignatureRunner*, const char* output_name);
void TfLiteSignatureRunnerDelete(TfLiteSignatureRunner* signature_runner);
int32_t TfLiteTensorNumDims(const TfLiteTensor* tensor);
int32_t TfLiteTensorDim(const TfLiteTensor* tensor, int32_t dim_index);
size_t TfLiteTensorByteSize(const TfLiteTensor* tensor);
TfLiteStatus TfLiteTensorCopyFromBuffer(TfLiteTensor* tensor, const void* input_data, size_t input_data_size);
TfLiteStatus TfLiteTensorCopyToBuffer(const TfLiteTensor* output_tensor, void* output_data, size_t);
}
"""


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.conv = nn.Embedding(9, 4), nn.Conv2d(3, 4, 3)

    def forward(self, ids, image):
        found = self.conv(image).mean((2, 3)) + self.words(ids).mean(1)
        return {"found": found, "best": found.argmax(1)}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    torch.manual_seed(0)
    inputs = ("ids:int64[rows=1..4,seq=4..12/4]=0..8", "image:float32[rows=1..4,3,6,5]")
    source = mx.Source(Mixed().eval(), inputs=inputs, name="net")
    (made,) = mx.export(source, ["tflite"], tmp_path_factory.mktemp("net"), options={"layout": "nhwc"})
    return made


def snippet(artifact, language):
    ((name, text),) = plugins.call(
        plugins.target("tflite"), "snippet", artifact=artifact, language=language
    ).items()
    return name, text


def test_every_language_has_the_models_own_interface(artifact):
    assert artifact.parity.verified is True
    for language in plugins.target("tflite").target.snippets:
        _, text = snippet(artifact, language)
        assert "ROWS = 1" in text
        assert "rows=1..4" in text
        assert "SEQ = 4" in text
        assert "a signature for each size, 3 in all" in text
        assert '"seq_4"' in text
        assert "[ROWS, 6, 5, 3], channels last" in text.replace("]; channels", "], channels")
        assert "int64 in the model" in text
        assert '"found"' in text or "found " in text
        assert "best" in text


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_cpp_compiles_against_the_c_api(artifact, tmp_path):
    header = tmp_path / "tensorflow" / "lite" / "c" / "c_api.h"
    header.parent.mkdir(parents=True)
    header.write_text(HEADER)
    name, text = snippet(artifact, "cpp")
    (tmp_path / name).write_text(text)
    command = ["g++", "-std=c++17", "-Wall", "-Werror", "-fsyntax-only", "-I", str(tmp_path), str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def nodes(node):
    yield node
    for child in node.children:
        yield from nodes(child)


def wrong(text, language):
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = pytest.importorskip(f"tree_sitter_{language}")
    tree = tree_sitter.Parser(tree_sitter.Language(grammar.language())).parse(text.encode())
    return [node.start_point[0] + 1 for node in nodes(tree.root_node) if node.is_error or node.is_missing]


@pytest.mark.parametrize("language", ["kotlin", "java", "swift"])
def test_the_others_parse(artifact, language):
    _, text = snippet(artifact, language)
    assert wrong(text, language) == []
    assert wrong(text.replace("= ", "= = ", 1), language) != []
