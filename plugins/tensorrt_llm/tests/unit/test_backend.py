"""What transformers shows and says while it works stays off the terminal, and comes back afterwards."""

import logging

import pytest
from modelexport_tensorrt_llm import backend


def test_nothing_is_shown_inside_the_block(transformers, capfd):
    from tqdm.auto import tqdm
    from transformers.utils import logging as its_logging

    before = logging.getLogger("transformers").level
    with backend.silenced():
        for bars in (tqdm, its_logging.tqdm):
            list(bars(range(3), desc="a bar"))
        its_logging.get_logger("transformers.modeling_utils").warning("a warning of its logger")
        print("a report")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("transformers").level == before
    list(tqdm(range(3), desc="a bar"))
    assert "a bar" in capfd.readouterr().err


def test_it_comes_back_after_an_error(transformers):
    before = logging.getLogger("transformers").level
    with pytest.raises(ValueError, match="no"), backend.silenced():
        raise ValueError("no")
    assert logging.getLogger("transformers").level == before
