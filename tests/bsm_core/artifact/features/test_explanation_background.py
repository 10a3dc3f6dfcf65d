from __future__ import annotations

import json

import pytest

from bsm_core.artifact.features.explanation_background import (
    EXPLANATION_BACKGROUND,
    ExplanationBackground,
    read_explanation_background,
    write_explanation_background,
)
from bsm_core.errors import CorruptArtifactError

BACKGROUND = ExplanationBackground(features=[0.5, -1.0], texts={"text": [0.25, 1.0]}, tokens={"text": [3.0]})


def test_a_background_is_read_as_it_was_written(tmp_path):
    write_explanation_background(tmp_path, BACKGROUND)
    assert read_explanation_background(tmp_path) == BACKGROUND


def test_an_artifact_may_have_none(tmp_path):
    assert read_explanation_background(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"features": [float("nan")]}, "features"),
        ({"texts": {"text": []}}, "texts.text"),
        ({"tokens": 3}, "tokens"),
        ({"more": 1}, "more"),
    ],
)
def test_another_content_is_refused(tmp_path, change, said):
    values = {"format": 1, "features": [], "texts": {}, "tokens": {}} | change
    (tmp_path / EXPLANATION_BACKGROUND).write_text(json.dumps(values))
    with pytest.raises(CorruptArtifactError) as caught:
        read_explanation_background(tmp_path)
    assert said in "\n".join(caught.value.details)
    assert "remove the file" in caught.value.fix
