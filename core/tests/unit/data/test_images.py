"""Folders of images as samples."""

import pytest
from modelexport.data.samples import open_samples
from modelexport.errors import InputError

from core.tests.unit.data.conftest import firsts, image, save_pictures, write


def test_images_of_a_folder_by_path(tmp_path):
    folder = save_pictures(tmp_path / "images", 6)
    write(folder / "notes.md", "no image")
    write(folder / "._000.png", "what some systems leave beside an image")
    found = open_samples(image(), folder)
    assert [round(value * 255) for value in firsts(found)] == [0, 2, 4, 1, 3, 5]
    assert [batch["x"].shape for batch in found.batches(4)] == [(4, 3, 5, 4), (2, 3, 5, 4)]
    assert [sample["x"].shape for sample in open_samples(image(batch="3"), folder)] == [(3, 3, 5, 4)] * 2


def test_images_of_every_suffix(tmp_path):
    from PIL import Image

    suffixes = [".jpg", ".JPEG", ".png", ".webp", ".bmp", ".gif", ".tif", ".TIFF"]
    for suffix in suffixes:
        Image.new("RGB", (4, 4)).save(tmp_path / f"a{suffix}")
    assert len(open_samples(image(), tmp_path)) == len(list(open_samples(image(), tmp_path))) == 8


def test_images_of_different_sizes(tmp_path):
    save_pictures(tmp_path, 2)
    save_pictures(tmp_path / "more", 1, size=(6, 6))
    found = open_samples(image(), tmp_path)
    assert [batch["x"].shape for batch in found.batches(3)] == [(2, 3, 5, 4), (1, 3, 6, 6)]
    with pytest.raises(InputError, match=r"000\.png and \(1, 3, 6, 6\) in .*more/0/000\.png"):
        list(found.batches(3, uniform=True))
    assert [b["x"].shape for b in open_samples(image(size=[2, 2]), tmp_path).batches(3, True)] == [(3, 3, 2, 2)]
    with pytest.raises(InputError, match="different shapes"):
        list(open_samples(image(batch="3"), tmp_path))


def test_a_damaged_image_is_named(tmp_path):
    save_pictures(tmp_path, 4)
    (tmp_path / "1" / "003.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"1/003\.png"):
        list(open_samples(image(), tmp_path))
    (tmp_path / "0" / "000.png").write_bytes((tmp_path / "0" / "000.png").read_bytes()[:50])
    with pytest.raises(InputError, match=r"0/000\.png"):
        open_samples(image(), tmp_path)


def test_a_folder_without_images(tmp_path):
    write(tmp_path / "a.md", "")
    with pytest.raises(InputError, match="holds no images"):
        open_samples(image(), tmp_path)


def test_an_image_that_does_not_fit_the_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"000\.png: input 'x' has size 5 on axis 2"):
        open_samples(image(shape="3,8,8"), save_pictures(tmp_path, 1))
