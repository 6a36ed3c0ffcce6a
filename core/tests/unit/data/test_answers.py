"""Outputs as lines for people, where the manifest and the outputs do not agree."""

from pathlib import Path

import numpy as np
from modelexport.contract import Artifact
from modelexport.data.answers import readable


def test_outputs_that_are_not_what_the_manifest_says_are_told_apart_from_none():
    processing = {"task": "image-classification", "labels": {"logits": ["cat", "dog"]}}
    artifact = Artifact(Path("x"), "tape", "model.tape", (), (), processing=processing)
    assert readable(artifact, {"logits": np.float32([[0.0, 2.0]])})[0].startswith("0: dog 0.88")
    (line,) = readable(artifact, {"logits": np.float32(1.0)})
    assert line.startswith("the outputs are not what `processing` takes them for: ")
    assert readable(artifact, {"other": np.float32(1.0)}) == []
