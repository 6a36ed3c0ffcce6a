"""Tables on terminals of any width: no figure is broken."""

import pytest
from modelexport.cli.show import tables

HEADINGS = ["", "p50 ms", "p99 ms", "samples/s", "size", "× baseline"]
ROWS = [
    ["model (PyTorch eager)", "25.920", "582.774", "20.8", "–", "1.000 (1.000–1.000)"],
    ["build/all-MiniLM-L6-v2.onnx", "27.483", "66.713", "34.0", "92.3 MB", "1.057 (0.944–1.184)"],
]


@pytest.mark.parametrize("width", [160, 90, 80, 40, 20])
def test_every_figure_is_whole(width, capsys):
    tables.table(HEADINGS, ROWS, width=width)
    printed = capsys.readouterr().out
    for row in ROWS:
        for figure in row[1:]:
            assert figure in printed, (width, printed)


def test_a_table_stays_one_where_it_fits_and_names_alone_are_folded(capsys):
    tables.table(HEADINGS, ROWS, width=90)
    wide = capsys.readouterr().out
    assert max(map(len, wide.splitlines())) <= 90
    assert any("p50 ms" in line and "× baseline" in line for line in wide.splitlines())


def test_a_narrow_one_has_a_line_for_each_figure(capsys):
    tables.table(HEADINGS, ROWS, title="contestants", width=40)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["contestants", "", "model (PyTorch eager)", "  p50 ms      25.920"]
    assert "  × baseline  1.057 (0.944–1.184)" in lines
