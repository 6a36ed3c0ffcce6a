"""Real images for benchmarks: photographs and crops of them, and Fashion-MNIST with a net that is trained on it.

The photographs are in the package scikit-image, whose code is not imported. Fashion-MNIST is Debian's package
dataset-fashion-mnist, unpacked in the folder that MX_TEST_DATA names, or else downloaded once into build/peers.
`fashion_net` and `detector` are factories for `mx export`, `fashion_accuracy` and `face_accuracy` scores for
`mx quantize --evaluate`.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import modelexport as mx
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

KEPT = Path(__file__).parents[1] / "build" / "peers"

#: those of scikit-image's pictures that a camera or a microscope took, 200 pixels high and wide at least
PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png", "coins.png", "grass.png",
    "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "retina.jpg",
    "rocket.jpg",
)  # fmt: skip

# --------------------------------------------------------------------------------------- photographs


def photographs() -> list[Path]:
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the photographs are in a package: pip install --no-deps scikit-image")
    return [Path(spec.submodule_search_locations[0]) / "data" / name for name in PHOTOGRAPHS]


def crops(n: int, seed: int = 0, size: int = 224) -> list[Any]:
    """`n` squares of the photographs as Pillow images: any place, 128 pixels or more of it, half of them mirrored.

    Many hold too little of anything for a classifier to be sure: agreement on them is a hard test.
    """
    from PIL import Image, ImageOps

    draw = np.random.default_rng(seed)
    pictures = [Image.open(path).convert("RGB") for path in photographs()]
    found = []
    for _ in range(n):
        picture = pictures[draw.integers(len(pictures))]
        side = int(draw.integers(128, min(picture.size) + 1))
        left, top = (int(draw.integers(0, length - side + 1)) for length in picture.size)
        crop = picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
        found.append(ImageOps.mirror(crop) if draw.random() < 0.5 else crop)
    return found


def save_crops(folder: Path, n: int, seed: int = 0) -> Path:
    """The crops as files, which `mx quantize --calibration FOLDER` reads; made once."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
            made = Path(draft) / folder.name
            made.mkdir()
            for index, crop in enumerate(crops(n, seed)):
                crop.save(made / f"{index:04}.png")
            made.rename(folder)
    return folder


# --------------------------------------------------------------------------------------- Fashion-MNIST


@cache
def fashion(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, 28, 28) of 0 to 1 and labels 0 to 9: 60,000 of "train", 10,000 of "t10k"."""
    folder = _fashion_folder()

    def read(kind: str, offset: int) -> np.ndarray:
        return np.frombuffer(gzip.decompress((folder / f"{part}-{kind}.gz").read_bytes()), np.uint8, offset=offset)

    images = read("images-idx3-ubyte", 16).reshape(-1, 1, 28, 28).astype(np.float32) / 255
    return images, read("labels-idx1-ubyte", 8).astype(np.int64)


def _fashion_folder() -> Path:
    given, inside = os.environ.get("MX_TEST_DATA"), Path("usr/share/datasets/fashion-mnist")
    for root in [Path(given) / "dataset-fashion-mnist", Path(given)] if given else []:
        if (root / inside).is_dir():
            return root / inside
    kept = KEPT / "fashion-mnist"
    if not kept.is_dir():
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT) as folder:
            quietly = {"cwd": folder, "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
            subprocess.run(["apt-get", "download", "dataset-fashion-mnist"], **quietly)
            (archive,) = Path(folder).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", archive.name, "all"], **quietly)
            (Path(folder) / "all" / inside).rename(kept)
    return kept


class Residual(nn.Module):
    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(given, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made)
        self.conv2, self.norm2 = nn.Conv2d(made, made, 3, 1, 1, bias=False), nn.BatchNorm2d(made)
        same = given == made and stride == 1
        shortcut = [] if same else [nn.Conv2d(given, made, 1, stride, bias=False), nn.BatchNorm2d(made)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (y + self.shortcut(x)).relu()


class FashionNet(nn.Module):
    """A small ResNet: 0.7 million parameters in 15 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        blocks = [Residual(32, 32, 1), Residual(32, 32, 1), Residual(32, 64, 2), Residual(64, 64, 1)]
        self.blocks = nn.Sequential(*blocks, Residual(64, 128, 2), Residual(128, 128, 1))
        self.head = nn.Linear(128, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem((image - 0.286) / 0.353)).mean((2, 3)))


def fashion_net() -> mx.Source:
    """FashionNet, trained the first time (in three minutes): .91 of the test images."""
    kept, net = KEPT / "fashion_net.pt", FashionNet()
    if not kept.is_file():
        torch.save(train(net).state_dict(), kept)
    net.load_state_dict(torch.load(kept, weights_only=True))
    return mx.Source(net, inputs=("image:float32[batch=1..64,1,28,28]=0..1",), outputs=("logits",))


def train(net: nn.Module, epochs: int = 2, batch: int = 128) -> nn.Module:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # steps so small are slower on two threads, by far on a busy machine
    images, labels = (torch.from_numpy(array) for array in fashion("train"))
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(batch)[: steps // epochs]:
            optimizer.zero_grad()
            functional.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def fashion_accuracy(session: mx.Session) -> float:
    """The share of the 10,000 test images whose class is found."""
    images, labels = fashion("t10k")
    scores = [session({"image": rows})["logits"] for rows in np.split(images, 200)]
    return float((np.concatenate(scores).argmax(1) == labels).mean())


# --------------------------------------------------------------------------------------- faces

TILE, TILES = 16, 40


class Detector(nn.Module):
    """MTCNN's P-Net with a head as detectors have it: corners in pixels, and the score, in one tensor."""

    def __init__(self, proposals: nn.Module) -> None:
        super().__init__()
        self.proposals = proposals

    def forward(self, image: Tensor) -> Tensor:
        offsets, faces = self.proposals(image)
        rows, columns = torch.meshgrid(*(2.0 * torch.arange(size) for size in faces.shape[2:]), indexing="ij")
        windows = torch.stack([columns, rows, columns + 12, rows + 12])
        return torch.cat([windows + 12 * offsets, faces[:, 1:]], 1)


def detector() -> mx.Source:
    """For every window of 12 × 12 pixels in a picture of 640 × 640: x, y, x, y and the odds that it is a face."""
    spec = importlib.util.spec_from_file_location("models", Path(__file__).parents[1] / "examples" / "models.py")
    assert spec is not None and spec.loader is not None
    models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    side = TILE * TILES
    return mx.Source(
        Detector(models.pnet().module),
        inputs=(f"image:float32[batch=1..4,3,{side},{side}]=-1..1",),
        outputs=("detections",),
    )


def mosaics(n: int, seed: int, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, 3, 640, 640) of -1 to 1 made of 40 × 40 tiles, and which of them are faces.

    The tiles are one half (0 or 1) of scikit-image's 100 faces and 100 pieces that are none.
    """
    tiles = np.load(photographs()[0].with_name("lfw_subset.npy"))[half::2]
    small = functional.interpolate(torch.from_numpy(tiles)[:, None], (TILE, TILE), mode="bilinear", antialias=True)
    chosen = np.random.default_rng(seed).integers(len(tiles), size=(n, TILES, TILES))
    pictures = small.numpy()[chosen, 0].transpose(0, 1, 3, 2, 4).reshape(n, 1, TILE * TILES, TILE * TILES)
    return (2 * pictures.repeat(3, 1) - 1).astype(np.float32), chosen < len(tiles) // 2


def face_accuracy(session: mx.Session) -> float:
    """The share of the 3,200 tiles of 2 mosaics told right: a face where a window within has odds above 0.7."""
    pictures, faces = mosaics(2, seed=1, half=1)
    odds = session({"image": pictures})["detections"][:, 4]
    first = TILE // 2 * np.arange(TILES)
    places = (first[:, None] + np.arange((TILE - 12) // 2 + 1)).ravel()
    best = odds[:, places][:, :, places].reshape(len(odds), TILES, -1, TILES, places.size // TILES).max((2, 4))
    return float(((best > 0.7) == faces).mean())
