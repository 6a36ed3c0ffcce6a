"""A fuzzer of the readers of data: good files with a few bytes changed, and what a reader makes of each.

    python core/tests/fuzz/inputs.py --count 20000 --seed 1 [--only npz] [--keep FOLDER]

Whatever a file holds, reading it gives arrays, or an MxError with a message and a hint, within bounds of time and
memory. Every round is made from its number and the seed alone, so what a run finds is found again; `--keep` writes
the files that did harm.
"""

import argparse
import io
import json
import random
import struct
import sys
import tempfile
import traceback
from pathlib import Path

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import numpy as np
from modelexport.contract import Artifact, TensorSpec, unify_dims
from modelexport.data.images import image_inputs
from modelexport.data.run_inputs import gather
from modelexport.data.samples import open_samples
from modelexport.errors import InputError, MxError
from modelexport.gate import golden
from modelexport.store.arrays import load_npy, load_npz

from core.tests.fuzz.bounds import SECONDS, TooLongError, bounded

#: numbers that lengths and counts are replaced by
TEMPTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)

#: what texts are broken with
WORDS = (
    b"[" * 2000, b"]", b"{", b'"', b"\\ud800", b"\xff", b"\0", b"NaN", b"1e999", b"9" * 5000, b",", b"\n", b"(",
    b"-", b"'descr'", b"|O", b"<U0", b">f4", b"True", b"18446744073709551616", b"\r", b"\xef\xbb\xbf",
)  # fmt: skip


def changed(content, random):
    """A copy with one to four changes: bytes flipped, replaced, cut out, doubled, or put in."""
    content = bytearray(content)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(content) + 1)
        change = random.randrange(6)
        if change == 0 and at < len(content):
            content[at] ^= 1 << random.randrange(8)
        elif change == 1:
            size, form = random.choice([(1, "B"), (2, "<H"), (4, "<I"), (4, ">I"), (8, "<Q")])
            number = random.choice(TEMPTING) & (2 ** (8 * size) - 1)
            content[at : at + size] = struct.pack(form, number)
        elif change == 2:
            del content[at : at + random.choice([1, 4, 64, len(content)])]
        elif change == 3:
            content[at:at] = content[at : at + random.choice([1, 16, 200])]
        elif change == 4:
            content[at:at] = random.choice(WORDS)
        else:
            content[at : at + 4] = random.randbytes(4)
    return bytes(content)


# --------------------------------------------------------------------------------------- good files


def _saved(save, **arrays):
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def _array(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _picture(form, mode="RGB", **keywords):
    from PIL import Image

    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (9, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(stream, form, **keywords)
    return stream.getvalue()


def seeds():
    """Kind of file → good ones of it."""
    x, ids = np.arange(12, dtype=np.float32).reshape(4, 3), np.ones((4, 2), np.int64)
    lines = [json.dumps({"x": [1, 2.5, index], "ids": [1, 2], "text": "a b"}) for index in range(4)]
    cells = "".join(f'"[1, 2.5, {index}]","[1, 2]",a b\r\n' for index in range(4))
    origin = {"000 low/origin": np.array("drawn"), "000 low/in/x": x, "000 low/out/y": x}
    return {
        "npz": [_saved(np.savez, x=x, ids=ids), _saved(np.savez_compressed, x=x, ids=ids)],
        "npy": [_array(x), _array(np.asfortranarray(x)), _array(x.astype(">f4"))],
        "golden": [_saved(np.savez, **origin)],
        "json": [json.dumps({"x": x.tolist(), "ids": ids.tolist()}).encode()],
        "jsonl": ["\n".join(lines).encode()],
        "csv": [f"x,ids,text\r\n{cells}".encode()],
        "txt": ["a b\nc\n\nd é".encode()],
        "image": [
            _picture("PNG"), _picture("PNG", "P"), _picture("JPEG"), _picture("JPEG", progressive=True),
            _picture("GIF"), _picture("BMP"), _picture("WEBP"), _picture("WEBP", lossless=True), _picture("PPM"),
            _picture("TIFF"), _picture("TIFF", compression="tiff_lzw"), _picture("TIFF", compression="tiff_jpeg"),
        ],
    }  # fmt: skip


# --------------------------------------------------------------------------------------- readers


def _declared(*declarations, **processing):
    specs = unify_dims([TensorSpec.parse(text) for text in declarations])
    return Artifact(Path(), "toy", "model", specs, (), processing=processing)


_SECTION = {
    "input": "x", "size": {"shortest_edge": 8}, "crop": [8, 8], "resample": "bilinear", "rescale": 1 / 255,
    "mean": [0.5] * 3, "std": [0.5] * 3, "color": "RGB", "layout": "NCHW",
}  # fmt: skip
NUMBERS = _declared("x:float32[batch,3]", "ids:int64[batch,k]=0..9")
ONE = _declared("x:float32[batch,3]")
PICTURES = _declared("x:float32[batch,3,8,8]", image=_SECTION)


def _sampled(artifact, path, **keywords):
    for _ in open_samples(artifact, path, **keywords):
        pass


def _columns(path):
    """A table by the columns that are named like the inputs, and without a model."""
    from modelexport.data.samples import check_reference

    check_reference(path, column="text")
    _sampled(NUMBERS, path)


def _text(path):
    from modelexport.data.samples import check_reference

    check_reference(path)


def _npz(path):
    load_npz(path)
    gather(NUMBERS, [str(path)])
    _sampled(NUMBERS, path)


def _npy(path):
    load_npy(path)
    _sampled(ONE, path)


#: kind of file → its suffix, and what reads it
READERS = {
    "npz": (".npz", _npz),
    "npy": (".npy", _npy),
    "golden": (".npz", golden.load),
    "json": (".json", lambda path: gather(NUMBERS, [str(path)])),
    "jsonl": (".jsonl", _columns),
    "csv": (".csv", _columns),
    "txt": (".txt", _text),
    "image": (".png", lambda path: image_inputs(PICTURES, [path])),
}


def harm_of(read, path, seconds=SECONDS):
    """What a reader did that it may not, in a line; None where it did well."""
    try:
        with bounded(seconds):
            read(path)
    except MxError as error:
        if not error.message or not error.hint:
            return f"says too little: {error!r}"
        return "says too much" if len(str(error)) > 5000 else None
    except (Exception, TooLongError) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}: {str(error)[:200]}"
    return None


def fuzz(count, seed, folder, only=None, keep=None):
    """`count` rounds over all kinds in turn; returns the harm done: (kind, round, what)."""
    good = {kind: files for kind, files in seeds().items() if only in (None, kind)}
    kinds, found = list(good), []
    for index in range(count):
        kind = kinds[index % len(kinds)]
        suffix, read = READERS[kind]
        chance = random.Random(f"{seed} {index}")
        path = Path(folder) / f"x{suffix}"
        content = changed(chance.choice(good[kind]), chance)
        path.write_bytes(content)
        if (harm := harm_of(read, path)) is not None:
            found.append((kind, index, harm))
            if keep is not None:
                (Path(keep) / f"{kind}-{seed}-{index}{suffix}").write_bytes(content)
    return found


def _refused(files):
    """Good files must not be refused: a fuzzer of files that no reader takes would find nothing."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, contents in files.items():
            suffix, read = READERS[kind]
            for content in contents:
                path = Path(folder) / f"x{suffix}"
                path.write_bytes(content)
                try:
                    read(path)
                except InputError as error:
                    yield kind, error


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="files to make")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(READERS), help="one kind of file alone")
    parser.add_argument("--keep", type=Path, help="folder for the files that did harm")
    asked = parser.parse_args()
    if asked.keep is not None:
        asked.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(asked.count, asked.seed, folder, asked.only, asked.keep)
    for kind, index, harm in found:
        print(f"{kind} {index}: {harm}")
    print(f"{asked.count} files, {len(found)} did harm")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
