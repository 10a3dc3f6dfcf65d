from __future__ import annotations

import pytest
from faults.harness import Harness
from support.toy import SITE, toy_rows, write_toy_artifact

from bsm_core.plugins.registry import default_registry


@pytest.fixture(scope="module", params=["csv", "parquet"])
def harness(request, tmp_path_factory):
    """Runs of the toy artifact on 23 rows, in three windows."""
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SITE))
        default_registry.cache_clear()
        model = write_toy_artifact(folder / "model")
        default_registry.cache_clear()
    data = folder / "t.csv"
    toy_rows(23).to_csv(data, index=False)
    made = Harness(model, data, folder / "work", request.param, environment={"PYTHONPATH": str(SITE)})
    yield made
    made.close()
