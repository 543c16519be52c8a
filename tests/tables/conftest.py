"""A folder with two equal tables, and tiny data to train them on."""

from pathlib import Path

import pytest

from nasseg.data.dataset import DataSet
from nasseg.tables.reproduce import table_data
from tests.tables.two_rows import TWO_ROWS


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))
    (tmp_path / "studies/mine").mkdir(parents=True)
    for name in ("table-0", "table-1"):
        (tmp_path / f"studies/mine/{name}.yaml").write_text(TWO_ROWS)


@pytest.fixture(scope="module")
def data() -> DataSet:
    return table_data("scenes", {"size": [32, 64], "train": 4, "val": 2, "test": 2})
