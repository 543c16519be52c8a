"""The accuracy columns of tables: a study for each table and accuracy protocol, a trial for each row and seed.

A study's name and identity follow from the data and from each row's network and recipe. A network trained for any table
under an equal protocol is not trained again. An interrupted training resumes from its checkpoint in runs/tables.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial

from nasseg.data.dataset import DataSet
from nasseg.errors import Fault, UserError
from nasseg.families import Arch, own_code_of
from nasseg.measure.accuracy import IGNORE
from nasseg.records import AccuracyProtocol, digest, eval_key
from nasseg.study.store.claims import Claims, Lost
from nasseg.study.store.record import Record
from nasseg.study.store.storage import TABLE_RUNS
from nasseg.study.store.trained import with_init_file
from nasseg.study.store.trial_attributes import (
    ARCH_ID,
    BEST,
    BEST_SHA256,
    EVALUATED,
    HELD_OUT,
    MEASUREMENT,
    TAKEN_FROM,
    WEIGHTS_SHA256,
)
from nasseg.tables.compute import cost_figure
from nasseg.tables.fitted_recipe import Training
from nasseg.tables.table_file import Table, TableColumn, TableRow
from nasseg.tables.table_store import Known, begin, candidate, row_and_seed
from nasseg.train.heads import TrainingHeads
from nasseg.train.loop import Guard
from nasseg.train.recipe import Recipe
from nasseg.train.run import HeldOut, Run, RunProgress, Tell, train_one
from nasseg.train.session import Failed
from nasseg.train.weights import weights_hash

EVALUATIONS = 4  # evaluations on the validation split, evenly over the steps, if the training is long enough
EVALUATING = 0.1  # the largest share they may take of a training's multiply-adds; the final one always runs
NOT_TRAINED = ("top1",)  # needs a classifier's recipe, which no table here has


@dataclass(frozen=True)
class Planned:
    """A training of a row with a seed. work, evaluation: multiply-adds of training and of evaluating.

    before: the pre-training whose weights it starts from.
    """

    row: TableRow
    run: Run
    key: str
    work: float
    evaluation: float
    before: "Planned | None" = None

    @property
    def seed(self) -> int:
        return self.run.seed

    @property
    def parts(self) -> tuple["Planned", ...]:
        """The trainings one after another."""
        return (self.before, self) if self.before else (self,)


def trained_column(table: Table) -> TableColumn | None:
    """Return the column whose rows are trained; None if the table has none."""
    columns = table.file.columns.values()
    return next((c for c in columns if c.accuracy and c.accuracy not in NOT_TRAINED and table.file.recipe), None)


def rows_trained(table: Table, training: Training | None = None) -> list[TableRow]:
    """Return the rows that are built here and need no data besides a column's and a training's."""
    given = {*training.pretraining, *training.self_training} if training else set()
    return [row for row in table.file.rows if row.variant and given >= {*row.pretraining, *row.self_training}]


@dataclass
class TableTraining:
    """The trainings of one table."""

    table: Table
    training: Training
    storage: str | None
    command: str = ""

    @cached_property
    def column(self) -> TableColumn | None:
        return trained_column(self.table)

    @cached_property
    def networks(self) -> dict[str, Arch]:
        """Row -> network."""
        rows = rows_trained(self.table, self.training) if self.column else []
        found = {row.name: row.arch(self.column, self.training.size) for row in rows}
        return {name: arch for name, arch in found.items() if arch is not None}

    @cached_property
    def runs(self) -> list[Planned]:
        """All rows with the first seed, then with the next. Rows that repeat one network have one seed each."""
        return [
            self._planned(row, seed if row.run is None else row.run - 1)
            for seed in range(self.training.seeds)
            for row in rows_trained(self.table, self.training)
            if row.name in self.networks and (row.run is None or seed == 0)
        ]

    @cached_property
    def identity(self) -> dict[str, Any]:
        assert self.column is not None
        rows = {}
        for row in rows_trained(self.table, self.training):
            recipe = self._recipe(row)
            start = [weights_hash(recipe.init)] if recipe.init else []
            if row.pretraining or row.self_training:
                before = self._before(row, 0) if row.pretraining else None
                start = [before.key if before else "", self._data(row).fingerprint]
            rows[row.name] = [self.networks[row.name].id, recipe.hash, *start]
        code = {source: known for one in self.runs for source, known in one.run.code.items()}
        own = {"own code": code} if code else {}
        return {"table": self.table.name, "data": self.training.data.fingerprint, "rows": rows, **own}

    @cached_property
    def record(self) -> Record:
        purpose = f"{self.training.data.name}-{digest(self.identity, 8)}"
        record = begin(self.table, purpose, ("miou", "%", "maximize"), self.identity, self.storage, self.command)
        splits = ("val", "test") if self._held_out else ("val",)
        attributes = {"protocol": self.training.words(self.table), "size": list(self.training.size)}
        joined = {"trained_on": list(on)} if (on := self.training.data.trained_on) else {}
        record.set_attributes({**attributes, **joined, "baseline": self.training.baseline(splits)})
        return record

    @cached_property
    def claims(self) -> Claims:
        return Claims(self.record)

    @property
    def work(self) -> float:
        return sum(part.work + part.evaluation for planned in self.runs for part in planned.parts)

    def _recipe(self, row: TableRow) -> Recipe:
        assert self.column is not None
        return with_init_file(self.training.recipe(self.table, row, self.column), self.storage)

    def _planned(self, row: TableRow, seed: int) -> Planned:
        before = self._before(row, seed) if row.pretraining else None
        recipe = self._recipe(row)
        found = self._of(row, seed, recipe, self._data(row), self._held_out)
        if before is None:
            return found
        protocol = replace(found.run.protocol, init=before.key)  # the file of weights does not exist yet
        return replace(found, key=_key(found.run, protocol), before=before)

    def _before(self, row: TableRow, seed: int) -> Planned:
        """Return the pre-training of a row."""
        data = self.training.pretraining[row.pretraining[0]]
        return self._of(row, seed, self.training.before(self.table, data), data, None)

    def _data(self, row: TableRow) -> DataSet:
        return self.training.self_training[row.self_training[0]] if row.self_training else self.training.data

    def _of(self, row: TableRow, seed: int, recipe: Recipe, data: DataSet, held_out: HeldOut | None) -> Planned:
        arch, size = self.networks[row.name], data.val.size
        macs = cost_figure(arch, "macs", size, data.num_classes)
        height, width = recipe.on(size, arch.input_scale).crop_size or size
        scale = arch.input_scale if recipe.views == "network" else 1.0
        share = height * width / (size[0] * size[1] * scale**2)
        passes = 3 * share * recipe.steps * recipe.batch_size  # a backward pass costs two forward passes
        images = data.counts["val"]
        family = str(row.variant) if ":" in str(row.variant) else ""
        evaluations = min(max(int(EVALUATING * passes / images), 1), EVALUATIONS)
        run = Run(
            arch=arch,
            data=data,
            recipe=recipe,
            seed=seed,
            folder=TABLE_RUNS,
            label=recipe.name,
            family=family,
            code=own_code_of({"family": family, **arch.params()}),
            held_out=held_out,
            device=self.training.device,
            evaluations=evaluations,
        )
        return Planned(row, run, _key(run, run.protocol), macs * passes, macs * evaluations * images)

    @cached_property
    def _held_out(self) -> HeldOut | None:
        data = self.training.data
        wanted = any(column.split == "test" for column in self.table.file.columns.values())
        if not wanted or "test" not in data.sources:
            return None
        labelled = any(bool((data.test.labels[number] != IGNORE).any()) for number in range(len(data.test)))
        return HeldOut(data.test, data.fingerprint) if labelled else None

    def check(self) -> None:
        """Check the networks before hours of training begin.

        Raises:
            UserError: a network lacks the features that its recipe's heads read.
        """
        classes = self.training.data.num_classes
        for planned in {planned.row.name: planned for planned in self.runs}.values():
            if planned.run.recipe.heads:
                try:
                    TrainingHeads(planned.run.recipe, planned.run.arch.build_meta(classes), classes)
                except UserError as error:
                    raise UserError(f"{self.table.name}, row {planned.row.name!r}: {error}") from None

    # Training

    def train(
        self, known: dict[str, Known], guard: Guard, tell: Tell, on_progress: Callable[[Planned, RunProgress], None]
    ) -> None:
        """Train the rows that are not trained yet, and add them to `known`.

        Raises:
            UserError: data or a folder cannot be used; finished trainings are kept.
            KeyboardInterrupt: it was interrupted; the same call resumes.
        """
        planned = {(one.row.name, one.seed): one for one in self.runs}

        def go_on(trials: Iterable[FrozenTrial]) -> None:
            for trial in trials:
                one = planned.get((trial.params["row"], trial.params["seed"]))
                if one is None:
                    self.record.fail(trial, "interrupted, and not part of this run", Fault.INTERRUPTED)
                else:
                    self._train(trial, one, known, guard, tell, on_progress)

        go_on(self.claims.waiting())
        for one in self.runs:
            claimed = self._claim(one)
            if claimed is not None:
                self._train(claimed, one, known, guard, tell, on_progress)
        go_on(self.claims.left_behind(tell))

    def _claim(self, one: Planned) -> FrozenTrial | None:
        distributions = row_and_seed(list(self.identity["rows"]))
        proposed = candidate(one.run.arch, one.run.family, one.row.name, one.seed, distributions)
        asked = {"row": one.row.name, "seed": one.seed}
        return self.claims.claim(proposed, one.key, {}, lambda trial: trial.params == asked)

    def _train(
        self,
        trial: FrozenTrial,
        one: Planned,
        known: dict[str, Known],
        guard: Guard,
        tell: Tell,
        on_progress: Callable[[Planned, RunProgress], None],
    ) -> None:
        name = f"{self.table.name}, {one.row.name}, seed {one.seed}"
        found = known.get(one.key)
        if found is None or (one.run.held_out is not None and HELD_OUT not in found.attributes):
            try:
                found = self._trained(trial, one, guard, tell, on_progress)
            except Lost:
                tell(f"{name}: another process took it over")
                return
            except Failed as error:
                self.record.fail(trial, str(error), error.fault)
                tell(f"{name} failed: {error}")
                return
            except (KeyboardInterrupt, UserError) as error:
                self.record.requeue(trial, str(error) or "it was stopped")
                raise
            known[one.key] = found
        else:
            tell(f"{name}: as {found.source}")
            self.record.update(trial, {TAKEN_FROM: found.source})
        accuracy = found.measurement.accuracy
        assert accuracy is not None
        figures = {"miou": accuracy.miou, ARCH_ID: found.measurement.arch_id, **found.attributes}
        self.record.complete(trial, [accuracy.miou], {**figures, MEASUREMENT: found.measurement.to_json()})

    def _trained(
        self,
        trial: FrozenTrial,
        one: Planned,
        guard: Guard,
        tell: Tell,
        on_progress: Callable[[Planned, RunProgress], None],
    ) -> Known:
        run, still = one.run, self.claims.guard(trial, guard)
        if (before := one.before) is not None:
            folder = TABLE_RUNS / before.key
            tell(f"{self.table.name}, {one.row.name}, seed {one.seed}: pre-training in {folder}")
            first = replace(before.run, folder=folder)
            train_one(first, guard=still, tell=tell, on_progress=lambda progress: on_progress(before, progress))
            start = {"init": str(folder / "last.pt")}
            run = replace(run, recipe=run.recipe.model_copy(update=start))
        result = train_one(
            # The key does not cover the held-out split, so its evaluation has its own folder.
            replace(run, folder=TABLE_RUNS / (one.key + ("-tested" if run.held_out else ""))),
            guard=still,
            tell=tell,
            on_progress=lambda progress: on_progress(one, progress),
        )
        attributes: dict[str, Any] = {BEST: json.dumps(asdict(result.best)), "best_miou": result.best.miou}
        attributes[EVALUATED] = [[step, round(miou, 3)] for step, miou in result.evaluated]
        attributes |= {WEIGHTS_SHA256: result.weights["last.pt"], BEST_SHA256: result.weights["best.pt"]}
        if result.held_out is not None:
            attributes |= {HELD_OUT: json.dumps(asdict(result.held_out)), "test_miou": result.held_out.miou}
        return Known(result.measurement, attributes, f"{self.record.name}#{trial.number}")


def _key(run: Run, protocol: AccuracyProtocol) -> str:
    """Return the key of a training. A user's own code counts: it may train differently at the same cost."""
    key = eval_key(run.arch.id, protocol)
    return digest([key, dict(run.code)]) if run.code else key
