"""The limits that the page on calibration data names are those of the code."""

from pathlib import Path

from modelexport import regular
from modelexport.data import images, run_inputs, tables, texts
from modelexport.store import arrays

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "calibration.md"


def test_the_limits_are_those_of_the_code():
    text = PAGE.read_text(encoding="utf-8").partition("## Limits")[2]
    said = [
        f"{arrays.WHOLE >> 30} GiB of arrays", f"{arrays.MEMBERS:,} arrays", f"{arrays.UNFOLDED >> 30} GiB, or",
        f"{arrays.RATIO} times its size", f"{run_inputs.JSON >> 20} MiB", f"{tables.ROW >> 20} MiB; samples",
        f"{tables.ROWS:,} rows", f"{texts.LONGEST:,} characters",
        f"{images.FILE >> 20} MiB, {images.PIXELS:,} pixels",
        f"{images.MADE:,} pixels when resized", f"{regular.ENTRIES:,} entries",
    ]  # fmt: skip
    assert [each for each in said if each not in text] == []
    assert all(name in text.upper() for name in images.FORMATS)
