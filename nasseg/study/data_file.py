"""The data of a study file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from nasseg.data.class_table import list_tables
from nasseg.errors import UserError

if TYPE_CHECKING:
    from nasseg.data.dataset import DataSet


class DataFile(BaseModel):
    """The data of a study. Further keys are options of the data set, such as `size` and `splits`.

    name: `scenes`, a data set by name, a class table, or a folder.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    def load(self) -> "DataSet":
        from nasseg.data.dataset import load_data  # imports torch: a search prints its first line before

        return load_data(self.name, **self.options())

    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    def at(self, path: Path) -> "DataFile":
        """Return the same data set in another place.

        Raises:
            UserError: the study's data are not in a folder, or there is no folder there.
        """
        if self.name == "scenes":
            raise UserError(
                "this study draws its data (scenes), so --data does not apply; name a folder in the study file"
            )
        if not path.expanduser().is_dir():
            raise UserError(
                f"no data set {str(path)!r}: --data names the folder of the study's data, and this folder does "
                "not exist"
            )
        if Path(self.name).suffix in (".yaml", ".yml") or self.name in list_tables():
            return DataFile(name=self.name, **{**self.options(), "root": str(path)})
        return DataFile(name=str(path), **self.options())
