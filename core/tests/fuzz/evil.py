"""Files of data that did harm, or might: each is made by a function that writes it at a path.

What reads them must say in one error what is wrong, at once, and in little memory.
"""

import io
import json
import os
import socket
import struct
import zipfile
import zlib

import numpy as np

MAGIC = b"\x93NUMPY"


# --------------------------------------------------------------------------------------- arrays


def npy(header, data=b"", version=(1, 0)):
    """A .npy with any header."""
    text = header.encode("latin-1") if isinstance(header, str) else header
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return MAGIC + bytes(version) + length + text + data


def described(shape, dtype="<f4", order=False):
    """A header as numpy writes it."""
    return f"{{'descr': {dtype!r}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def zipped(*members, compression=zipfile.ZIP_STORED):
    """A writer of an archive of (name, bytes); a name may stand twice."""

    def write(path):
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in members:
                archive.writestr(name, content)

    return write


GOOD = saved(np.zeros((2, 4), np.float32))


def patched(change):
    """A writer of a good .npz whose bytes are then changed."""

    def write(path):
        zipped(("x.npy", GOOD))(path)
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)

    return write


def central(offset, form, value):
    """A change of the archive's table of contents, at an offset of its entry."""

    def change(content):
        struct.pack_into(form, content, content.index(b"PK\x01\x02") + offset, value)

    return change


def both(central_offset, local_offset, form, value):
    """A change of the table of contents and of what stands before the member."""

    def change(content):
        central(central_offset, form, value)(content)
        struct.pack_into(form, content, local_offset, value)

    return change


def bomb(size, members):
    """A writer of a .npz of zeros that is a thousandth of what it unfolds to. Its sums are wrong."""

    def write(path):
        head, chunk = npy(described((size // 16, 4))), 1 << 24
        rest = zlib.compressobj(9, zlib.DEFLATED, -15)
        first = rest.compress(head) + rest.flush(zlib.Z_FULL_FLUSH)
        body = first + (rest.compress(bytes(chunk)) + rest.flush(zlib.Z_FULL_FLUSH)) * (size // chunk)
        body += rest.compress(bytes(size % chunk)) + rest.flush()
        with path.open("wb") as stream:
            listed = b""
            for index in range(members):
                label = b"x%d.npy" % index
                fields = (20, 0, 8, 0, 33, 0, len(body), len(head) + size, len(label), 0)
                listed += struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, *fields, 0, 0, 0, 0, stream.tell())
                listed += label
                stream.write(struct.pack("<4sHHHHHIIIHH", b"PK\3\4", *fields) + label + body)
            ends = (0, 0, members, members, len(listed), stream.tell(), 0)
            stream.write(listed + struct.pack("<4sHHHHIIH", b"PK\5\6", *ends))

    return write


def sparse(size, content=b""):
    def write(path):
        with path.open("wb") as stream:
            stream.write(content)
            stream.truncate(size)

    return write


#: arrays that are none, or none of numbers
NPY = {
    "29 TiB": npy(described((2**43, 1))),
    "negative": npy(described((-1, -1)), data=bytes(4)),
    "negative twice": npy(described((-2, -4)), data=bytes(32)),
    "overflow": npy(described((2**62, 2**62, 16))),
    "wraps to nothing": npy(described((2**32, 2**32))),
    "a size of a thousand digits": npy(described(f"({'9' * 1000},)")),
    "a size of 5000 digits": npy(described(f"({'9' * 5000},)")),
    "a bool as size": npy(described("(True, 4)"), data=bytes(16)),
    "floats as sizes": npy(described("(2.0, 4)"), data=bytes(32)),
    "no tuple": npy(described("8"), data=bytes(32)),
    "a hundred axes": npy(described((1,) * 100), data=bytes(4)),
    "empty and huge": npy(described((0, 2**62, 4))),
    "texts of no length": npy(described((10**12,), "<U0")),
    "void of no length": npy(described((10**12,), "|V0")),
    "objects": saved(np.array([{}], object)),
    "a pickle": npy(described((1,), "|O"), b"\x80\x04."),
    "structured": npy(described((2,), [("a", "<f4"), ("b", "<i4")]), data=bytes(16)),
    "nested structure": npy(f"{{'descr': {'[(' * 50}, 'fortran_order': False, 'shape': (1,)}}"),
    "dates": npy(described((2,), "<M8[s]"), data=bytes(16)),
    "dtype of 2 GB": npy(described((1,), f"<U{2**29}")),
    "dtype is no dtype": npy(described((1,), "<z9"), data=bytes(9)),
    "dtype is a module": npy(described((1,), "numpy.os"), data=bytes(9)),
    "dtype with commas": npy(described((1,), "f4," * 800 + "f4"), data=bytes(4)),
    "header is a list": npy("[1, 2]\n"),
    "header is a call": npy("__import__('os').abort()\n"),
    "header lacks a key": npy("{'descr': '<f4', 'shape': (2,)}\n", data=bytes(8)),
    "header has keys that can't be sorted": npy("{1: 2, 'shape': (2,), None: 3}\n"),
    "header of brackets": npy("(" * 9000),
    "header of signs": npy("-" * 9000 + "1"),
    "header of text signs": npy("{'descr': " + "~-" * 4000 + "1}"),
    "header is no text": npy(bytes(range(256)) * 4),
    "header with NUL": npy("{'descr': '<f4\0', 'fortran_order': False, 'shape': (1,)}", data=bytes(4)),
    "header of 60 MB": npy(b" " * 60_000_000, version=(2, 0)),
    "header longer than the file": MAGIC + b"\2\0\xff\xff\xff\xff{}",
    "header with surrogates": npy("{'descr': '\\ud800', 'fortran_order': False, 'shape': (1,)}"),
    "version 0": npy(described((2,)), data=bytes(8), version=(0, 0)),
    "version 9": npy(described((2,)), data=bytes(8), version=(9, 1)),
    "only the magic": MAGIC,
    "nothing in it": b"",
    "too little data": npy(described((2, 4)), data=bytes(31)),
    "too much data": npy(described((2, 4)), data=bytes(33)),
}

#: .npz files that hold no arrays of numbers that could be read
NPZ = {
    **{kind: zipped(("x.npy", content)) for kind, content in NPY.items()},
    "no array": zipped(("x.txt", b"hello")),
    "no array beside one": zipped(("x.npy", GOOD), ("readme.txt", b"hello")),
    "a folder": zipped(("x/", b"")),
    "two of one name": zipped(("x.npy", GOOD), ("x.npy", GOOD)),
    "two that read alike": zipped(("x.npy", GOOD), ("x", GOOD)),
    "no members": zipped(),
    "many members": zipped(*((f"x{index}.npy", GOOD) for index in range(30_000))),
    "encrypted": patched(both(8, 6, "<H", 1)),
    "strongly encrypted": patched(both(8, 6, "<H", 0x41)),
    "unknown compression": patched(both(10, 8, "<H", 99)),
    "LZMA": zipped(("x.npy", GOOD), compression=zipfile.ZIP_LZMA),
    "BZIP2": zipped(("x.npy", GOOD), compression=zipfile.ZIP_BZIP2),
    "says deflated": patched(both(10, 8, "<H", 8)),
    "patched data": patched(both(8, 6, "<H", 0x20)),
    "size of 4 GB": patched(central(24, "<I", 0xFFFFFFFE)),
    "compressed size of 4 GB": patched(central(20, "<I", 0xFFFFFFFE)),
    "both sizes of 4 GB": patched(
        lambda content: (central(20, "<I", 0xFFFFFFFE)(content), central(24, "<I", 0xFFFFFFFE)(content))
    ),
    "zip64 without its field": patched(central(24, "<I", 0xFFFFFFFF)),
    "wrong sum": patched(both(16, 14, "<I", 1)),
    "begins outside": patched(central(42, "<I", 0x7FFFFFFF)),
    "other name before the data": patched(lambda content: content.__setitem__(30, ord("y"))),
    "later version": patched(central(6, "<H", 99)),
    "flipped bit": patched(lambda content: content.__setitem__(150, content[150] ^ 1)),
    "cut off": patched(lambda content: content.__delitem__(slice(-10, None))),
    "cut in the middle": patched(lambda content: content.__delitem__(slice(60, 120))),
    "10 GB of zeros": bomb(4_000_000_000, 3),
    "8 GB of one file": sparse(8 << 30, b"PK\3\4"),
    "empty": sparse(0),
    "one byte": sparse(1),
    "text": lambda path: path.write_text("x,y\n1,2\n"),
    "a .npy": lambda path: path.write_bytes(GOOD),
    "a pickle alone": lambda path: path.write_bytes(b"\x80\x04}."),
}

# --------------------------------------------------------------------------------------- places


def fifo(path):
    os.mkfifo(path)


def circle(path):
    path.symlink_to(path)


def device(path):
    path.symlink_to("/dev/zero")


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


#: what lies where a file should
PLACES = {
    "FIFO": fifo,
    "circle": circle,
    "device": device,
    "socket": listening,
    "folder": os.mkdir,
    "dangling": lambda path: path.symlink_to("gone"),
    "absent": lambda path: None,
}


# --------------------------------------------------------------------------------------- tables


def bytes_of(content):
    return lambda path: path.write_bytes(content)


#: files of text that hold no samples, whatever the suffix
TEXTS = {
    "a line of 60 MB": bytes_of(b"a" * 60_000_000),
    "a line of 60 MB after a good one": bytes_of(b"a\n" + b"b" * 60_000_000),
    "60 MB of words": bytes_of(b"a b " * 15_000_000),
    "60 MB of NUL": bytes_of(bytes(60_000_000)),
    "latin-1": bytes_of("é\n".encode("latin-1")),
    "UTF-16": bytes_of("text\na\n".encode("utf-16")),
    "UTF-32": bytes_of("text\na\n".encode("utf-32")),
    "encoded surrogates": bytes_of(b"\xed\xa0\x80\n"),
    "empty": bytes_of(b""),
    "blank": bytes_of(b" \n\t\n"),
    "only a mark": bytes_of(b"\xef\xbb\xbf"),
}

#: .jsonl files that hold no samples
JSONL = {
    "a line of 30 MB": bytes_of(b'{"text": "' + b"a" * 30_000_000 + b'"}'),
    "30 MB of lists": bytes_of(b'{"x": [' + b"[]," * 10_000_000 + b"[]]}"),
    "30 MB of objects": bytes_of(b'{"x": [' + b"{}," * 10_000_000 + b"{}]}"),
    "lists 100,000 deep": bytes_of(b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "objects 100,000 deep": bytes_of(b'{"text":' * 100_000 + b"1" + b"}" * 100_000),
    "lists 900 deep": bytes_of(b'{"text": ' + b"[" * 900 + b"]" * 900 + b"}"),
    "a surrogate": bytes_of(b'{"text": "a \\ud800 b"}'),
    "a surrogate as key": bytes_of(b'{"\\udfff": "a"}'),
    "a key twice": bytes_of(b'{"text": "a", "text": "b"}'),
    "NaN": bytes_of(b'{"x": NaN}'),
    "a number of 5000 digits": bytes_of(b'{"text": ' + b"9" * 5000 + b"}"),
    "no object": bytes_of(b'["a"]'),
    "no JSON": bytes_of(b"text: a"),
    "many columns": bytes_of(json.dumps({f"column {index}": 1 for index in range(100_000)}).encode()),
    "words beside a long one": bytes_of(
        json.dumps({"x": ["a" * 1_000_000, *["b"] * 100_000], "ids": [1]}).encode()
    ),
    "a long text": bytes_of(b'{"text": "' + b"a" * 5_000_000 + b'"}'),
    "a long text of words": bytes_of(b'{"text": "' + b"a b " * 1_200_000 + b'"}'),
}

#: .csv files that hold no samples
CSV = {
    "a cell of 60 MB": bytes_of(b"text\n" + b"a" * 60_000_000),
    "a quote never closed": bytes_of(b'text\n"' + b"a\n" * 10_000_000),
    "a record of 60 MB": bytes_of(b"text\n" + b'"\n",' * 15_000_000),
    "a header of 60 MB": bytes_of(b"a," * 30_000_000 + b"\na\n"),
    "a header never closed": bytes_of(b'"text\n' + b"a\n" * 10_000_000),
    "many columns": bytes_of(
        b",".join(b"c%d" % index for index in range(100_000)) + b"\n" + b"1," * 99_999 + b"1\n"
    ),
    "no records": bytes_of(b"text\n"),
    "too few cells": bytes_of(b"one,text\na\n"),
    "JSON 100,000 deep": bytes_of(b'x,ids\n"' + b"[" * 100_000 + b'",1\n'),
}


# --------------------------------------------------------------------------------------- images


def png(width, height, rows=b"", depth=8, kind=2, chunks=()):
    """A PNG of any size, whether or not it has as many pixels."""
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    lumps = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in body
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(lumps)


def drawn(form, mode="RGB", size=(4, 5), **keywords):
    def write(path):
        from PIL import Image

        Image.new(mode, size).save(path, form, **keywords)

    return write


def cut(form, **keywords):
    def write(path):
        drawn(form, size=(64, 64), **keywords)(path)
        path.write_bytes(path.read_bytes()[:-40])

    return write


def tiff(width, height, compression=1, offset=8, count=1):
    """A TIFF that says how large it is, and little more."""
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1),
        (273, 4, count, offset), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, count, 8),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + struct.pack("<I", 0)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n(x) (w) file\nshowpage\n"

#: files that are no image a model could get, whatever the suffix
IMAGES = {
    "13,000 x 13,000": lambda path: path.write_bytes(png(13_000, 13_000, bytes(13_000 * 39_001))),
    "says 13,000 x 13,000": bytes_of(png(13_000, 13_000)),
    "2 billion wide": bytes_of(png(2**31 - 1, 2**31 - 1)),
    "no pixels wide": bytes_of(png(0, 5)),
    "20,000 x 20,000 TIFF": bytes_of(tiff(20_000, 20_000)),
    "4 billion TIFF": bytes_of(tiff(2**32 - 1, 2**32 - 1)),
    "TIFF with strips outside": bytes_of(tiff(4, 5, offset=2**31)),
    "TIFF with a billion strips": bytes_of(tiff(4, 5, count=2**30)),
    "TIFF of an unknown kind": bytes_of(tiff(4, 5, compression=34_666)),
    "20,000 x 20,000 BMP": bytes_of(
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 20_000, 20_000, 1, 24, *(0,) * 6)
    ),
    "60,000 x 60,000 GIF": bytes_of(
        b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0) + b"\x2c" + bytes(4)
    ),
    "cut PNG": cut("PNG"),
    "cut JPEG": cut("JPEG"),
    "cut WebP": cut("WEBP", lossless=True),
    "no pixels": bytes_of(png(4, 5)),
    "text": bytes_of(b"hello"),
    "empty": bytes_of(b""),
    "EPS": bytes_of(EPS),
    "PDF": bytes_of(b"%PDF-1.4\n"),
    "SVG": bytes_of(b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/hostname"/></svg>'),
    "HDF5": bytes_of(b"\x89HDF\r\n\x1a\n" + bytes(64)),
    "ICO": drawn("ICO", size=(16, 16)),
    "16 bits of grey": drawn("PNG", "I;16"),
    "32 bits of grey": drawn("TIFF", "I"),
    "floats": drawn("TIFF", "F"),
    "a text chunk of 200 MB": bytes_of(
        png(4, 5, bytes(65), chunks=[(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000)))])
    ),
}

#: images that are fine, if unusual
ODD_IMAGES = {
    "animated GIF": lambda path: _animated(path, "GIF"),
    "animated WebP": lambda path: _animated(path, "WEBP"),
    "CMYK": drawn("JPEG", "CMYK"),
    "palette": drawn("PNG", "P"),
    "bilevel": drawn("TIFF", "1"),
    "with alpha": drawn("PNG", "RGBA"),
    "EXIF of 60 kB": lambda path: _with_exif(path),
}


def _animated(path, form):
    from PIL import Image

    frames = [Image.new("RGB", (4, 5), (index, 0, 0)) for index in range(5)]
    frames[0].save(path, form, save_all=True, append_images=frames[1:])


def _with_exif(path):
    from PIL import Image

    exif = Image.Exif()
    exif[274], exif[37510] = 1, b"a" * 60_000
    Image.new("RGB", (4, 5)).save(path, "JPEG", exif=exif)
