"""The weights of a study's networks: a folder for each eval_key, below a path or an fsspec URL."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from nasseg.errors import UserError
from nasseg.files import below, cache_folder
from nasseg.records import digest
from nasseg.redaction import HIDDEN, keep_secret
from nasseg.study.store.trial_attributes import EVAL_KEY, PUBLISHED, REUSED_FROM, is_interrupted, is_stopped

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

LAST, CHECKPOINT = "last.pt", "checkpoint.pt"
PREDICTIONS = "predictions.zip"  # beside the last weights, and removed with them


def is_url(place: Path | str) -> bool:
    return "://" in str(place)


def weights_place(runs: str, study: str) -> Path | str:
    """Return the place of a study's weights, below a path or URL for all studies."""
    return f"{runs.rstrip('/')}/{study}" if is_url(runs) else Path(runs).resolve() / study


def recorded_place(place: Any, study: str) -> Path | str:
    """Return the place of a study's weights from its record.

    Raises:
        UserError: the place does not end with the study's name.
    """
    name = study.partition("@")[0]
    if not (isinstance(place, str) and place.endswith(f"/{name}") and ".." not in place.split("/")):
        raise UserError(
            f"the weights of study {name!r} must be in a folder of that name, got {place!r}: the record was "
            "changed by hand"
        )
    return place


@dataclass(frozen=True)
class WeightStore:
    """Weights below a path, read and written directly, or below a URL, through a folder on this machine."""

    place: Path | str

    def __post_init__(self) -> None:
        keep_secret(str(self.place))

    def folder(self, key: str) -> Path:
        """Return a folder on this machine with the files of a network's weights, if there are any.

        Raises:
            UserError: the URL cannot be read, or the key leads out of the store.
        """
        if not is_url(self.place):
            return below(Path(self.place), key)
        local = below(cache_folder() / "weights" / digest(str(self.place)), key)
        local.mkdir(parents=True, exist_ok=True)
        for name in (LAST, CHECKPOINT):
            if self._files.exists(self._at(key, name)):
                self._files.get_file(self._at(key, name), str(local / name))
            else:
                (local / name).unlink(missing_ok=True)
        return local

    def written(self, path: Path) -> None:
        """Upload a file. Call it after writing a file in a network's folder.

        Raises:
            OSError: the URL cannot be written.
        """
        if is_url(self.place):
            there = self._at(path.parent.name, path.name)
            self._files.makedirs(there.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), f"{there}.part")
            self._files.mv(f"{there}.part", there)

    def read(self, key: str, name: str) -> bytes | None:
        """Return a file's content; None if there is no such file.

        Raises:
            OSError: it cannot be read.
            UserError: the URL cannot be read, or the key leads out of the store.
        """
        path = below(Path(str(self.place)), key) / name
        if not is_url(self.place):
            return path.read_bytes() if path.is_file() else None
        there = self._at(key, name)
        content: bytes | None = self._files.cat_file(there) if self._files.exists(there) else None
        return content

    def remove(self, key: str, name: str) -> None:
        """Remove a file, if it is there."""
        folder = below(Path(str(self.place)), key)
        if not is_url(self.place):
            (folder / name).unlink(missing_ok=True)
        elif self._files.exists(self._at(key, name)):
            self._files.rm_file(self._at(key, name))

    def check(self, elsewhere: bool = False) -> None:
        """Check that a URL can be opened here, or a folder written, unless jobs write it `elsewhere`.

        Raises:
            UserError: it cannot.
        """
        if is_url(self.place):
            self._files  # noqa: B018
        if elsewhere or is_url(self.place):
            return
        try:
            Path(self.place).mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=self.place).close()
        except OSError as error:
            raise UserError(
                f"cannot write weights into {self.place}: {error.strerror}; name another folder with --runs"
            ) from None

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        import fsspec

        bare = str(self.place).replace(f":{HIDDEN}@", "@")
        try:
            files, root = fsspec.core.url_to_fs(bare)
        except (ImportError, ValueError, OSError) as error:
            lost = bare != str(self.place)  # from a record
            hint = "; records keep no passwords: set FSSPEC_PROTOCOL_PASSWORD, such as FSSPEC_FTP_PASSWORD" * lost
            raise UserError(f"cannot open {self.place}: {error}{hint}") from None
        return files, root.rstrip("/")

    @property
    def _files(self) -> Any:
        return self._opened[0]

    def _at(self, key: str, name: str) -> str:
        return f"{self._opened[1]}/{key}/{name}"


def _dominates(one: list[float], other: list[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


class Keeper:
    """Remove weights that a study does not keep. keep: `front` (and published networks), `all` or `none`.

    Checkpoints of networks that may continue stay. Networks that failed by their own fault leave none.
    """

    def __init__(self, store: WeightStore, keep: str, directions: list[str]) -> None:
        self._store, self._keep = store, keep
        self._signs = [-1.0 if direction == "maximize" else 1.0 for direction in directions]
        self._front: dict[str, list[float]] = {}  # costs by key

    def learn(self, trial: "FrozenTrial") -> None:
        """Take in a trial that ended.

        Raises:
            UserError: a file cannot be removed.
        """
        attributes, key = trial.user_attrs, trial.user_attrs.get(EVAL_KEY)
        if key is None or REUSED_FROM in attributes:
            return
        state = trial.state.name
        if state == "FAIL" and not is_interrupted(trial):
            self._remove(key, CHECKPOINT)
        elif state == "PRUNED" and not is_stopped(trial) and self._keep != "all":
            self._remove(key, LAST, PREDICTIONS)  # over a limit after training
        elif state == "COMPLETE" and PUBLISHED not in attributes:
            if self._keep == "none":
                self._remove(key, LAST, PREDICTIONS)
            elif self._keep == "front":
                self._keep_front(key, [sign * value for sign, value in zip(self._signs, trial.values, strict=True)])

    def _keep_front(self, key: str, costs: list[float]) -> None:
        """Remove the weights that a network makes needless: its own, or those of networks it dominates."""
        if any(_dominates(other, costs) for name, other in self._front.items() if name != key):
            self._front.pop(key, None)
            self._remove(key, LAST, PREDICTIONS)
            return
        for loser in [name for name, other in self._front.items() if name != key and _dominates(costs, other)]:
            del self._front[loser]
            self._remove(loser, LAST, PREDICTIONS)
        self._front[key] = costs

    def _remove(self, key: str, *names: str) -> None:
        try:
            for name in names:
                self._store.remove(key, name)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot remove weights that are not kept from {self._store.place}: {reason}") from None
