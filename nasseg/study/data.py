"""The data of a study file."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from nasseg.errors import UserError
from nasseg.train.data import DataSet, load_data


class DataFile(BaseModel):
    """`name`: `scenes` or a folder. Further keys are options of that source (nasseg.train.data.load_data)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    def load(self) -> DataSet:
        return load_data(self.name, **self.options())

    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    def at(self, path: Path) -> "DataFile":
        """The same data set in another place.

        Raises:
            UserError: the study's data are not in a folder.
        """
        if self.name == "scenes":
            raise UserError(
                "this study draws its data (scenes): --data does not apply; name a folder in the study file"
            )
        return DataFile(name=str(path))
