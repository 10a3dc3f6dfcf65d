from __future__ import annotations

import pytest

from bsm_core.artifact.untrusted.archives.layout import wanted_of_folder

FILES = ["hyperparameters.json", "model.pth", "tokenizer/tokenizer.json", "code/model.pth", ".cache/model.pth", "a.log"]
READ = ["hyperparameters.json", "model.pth", "tokenizer/tokenizer.json"]


@pytest.mark.parametrize(
    ("names", "keep", "wanted"),
    [
        (FILES, False, READ),
        (FILES, True, [*READ, "code/model.pth", "a.log"]),
        ([f"v1/{name}" for name in READ], False, [f"v1/{name}" for name in READ]),
        (["model.tar.gz.sha256", "model.tar.gz", *FILES], True, ["model.tar.gz.sha256", "model.tar.gz"]),
        (["model.tgz", *FILES], False, ["model.tgz", *READ]),
        (["other.tar.gz", "data.csv"], False, []),
    ],
)
def test_of_a_folder_in_an_object_store_only_what_is_read_is_copied(names, keep, wanted):
    assert sorted(wanted_of_folder(names, keep=keep)) == sorted(wanted)
