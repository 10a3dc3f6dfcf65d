from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.classifiers import save_classifier

from bsm_core.artifact import Artifact
from bsm_core.errors import (
    ArtifactError,
    DataError,
    MissingArtifactFilesError,
    MissingColumnsError,
    UnknownComponentError,
    UsageError,
)
from bsm_core.plugins.registry import Registry
from bsm_core.training import import_model


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("saved") / "classifier", "distilbert")


def test_the_destination_must_be_new(classifier, tmp_path):
    (tmp_path / "artifact").mkdir()
    artifact = import_model(classifier, tmp_path / "artifact", text_column="review")  # an empty folder
    with pytest.raises(UsageError, match="there already"):
        import_model(classifier, artifact, text_column="review")


def test_the_destination_must_lie_outside_of_the_source(classifier):
    with pytest.raises(UsageError, match="lies in the source"):
        import_model(classifier, classifier / "artifact", text_column="review")
    with pytest.raises(UsageError, match="lies in the source"):
        import_model(classifier, classifier / "artifact.tar.gz", text_column="review")


@pytest.mark.parametrize("name", ["artifact.tgz", "artifact.zip"])
def test_the_destination_must_not_look_like_another_archive(classifier, tmp_path, name):
    with pytest.raises(UsageError, match=f"no archive of the form {Path(name).suffix} is written"):
        import_model(classifier, tmp_path / name, text_column="review")


def test_a_zip_archive_is_to_be_unpacked(classifier, tmp_path):
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", classifier)
    with pytest.raises(UsageError, match=r"a \.zip archive") as caught:
        import_model(packed, tmp_path / "new", text_column="review")
    assert caught.value.fix == "unpack it, and give the folder"


def test_check_rows_are_the_first_rows_of_the_data(classifier, tmp_path):
    (tmp_path / "rows.csv").write_text("id,review\n" + "".join(f"{i},good dress {i}\n" for i in range(20)))
    artifact = Artifact.load(
        import_model(classifier, tmp_path / "new.d", text_column="review", data=tmp_path / "rows.csv")
    )
    assert [row["review"] for row in artifact.check_rows.rows] == [f"good dress {i}" for i in range(8)]
    assert "self_check.json" in artifact.provenance.files


@pytest.mark.parametrize(("content", "error"), [("id,text\n1,a\n", MissingColumnsError), ("review\n", DataError)])
def test_data_that_cannot_be_scored_leave_nothing_behind(classifier, tmp_path, content, error):
    (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(error):
        import_model(classifier, tmp_path / "new", text_column="review", data=tmp_path / "rows.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_sources_that_are_no_model(tmp_path):
    with pytest.raises(MissingArtifactFilesError):
        import_model(tmp_path / "gone", tmp_path / "new")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingArtifactFilesError, match="the config"):
        import_model(tmp_path / "empty", tmp_path / "new")
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(ArtifactError, match="not a gzip-compressed tar archive"):
        import_model(tmp_path / "text.txt", tmp_path / "new")
    (tmp_path / "last.ckpt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ArtifactError, match="Git LFS"):
        import_model(tmp_path / "last.ckpt", tmp_path / "new", config="config.json")


def test_without_the_plugin_of_the_class(classifier, tmp_path):
    with pytest.raises(UnknownComponentError, match="transformers_classifier"):
        import_model(classifier, tmp_path / "new", text_column="review", registry=Registry([]))


def test_a_folder_with_an_artifacts_config_is_that_of_a_job(classifier, tmp_path):
    source = shutil.copytree(classifier, tmp_path / "both")
    (source / "hyperparameters.json").write_text('{"model_class": "bert"}')
    with pytest.raises(UsageError, match="the folder of a training job"):
        import_model(source, tmp_path / "new", text_column="review")
