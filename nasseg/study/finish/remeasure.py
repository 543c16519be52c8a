"""Measure a search's latencies again: its front and the published networks beside it, in turns, in one session.

A search measures over hours, each network once. New measurements form a sibling study, `<name>@remeasure`: a trial for
each network and session, with the search's cost and accuracy, the new latency instead of the old, and the old one
beside it. The search's own trials stay as they are.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import TrialState, create_trial

from nasseg.analyse.remeasured import PURPOSE, SEARCHED_MS, agreement, remeasured_frame, sessions
from nasseg.analyse.trials import is_disturbed, may_be_on_front, outcome
from nasseg.errors import UserError
from nasseg.families import Arch, arch_of
from nasseg.figures import USUAL, value_of
from nasseg.measure.environment import environment
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.measure.latency.in_turns import Row, compare_latency
from nasseg.own_code import of_record
from nasseg.records import Latency, LatencyProtocol, Measurement, StudyRecord, TrialRow, digest
from nasseg.study.finish.members import front_members
from nasseg.study.finish.sibling import sibling
from nasseg.study.limits import over_limit
from nasseg.study.store.candidate import Candidate, Proposal
from nasseg.study.store.read_study import latest_of, open_record, record_of
from nasseg.study.store.record import Record
from nasseg.study.store.storage import storage_faults
from nasseg.study.store.trial_attributes import (
    DISTURBED_ROUNDS,
    EVAL_KEY,
    OF_TRIAL,
    PUBLISHED,
    ROUNDS_MS,
    SESSION,
    WEIGHTS_SHA256,
)
from nasseg.words import counted

ROUNDS = 5
END_ROUNDS = 2  # at the end of a search
_KEPT = (EVAL_KEY, WEIGHTS_SHA256)  # to find the weights


@dataclass(frozen=True)
class Remeasured:
    """A session. frame: see nasseg.analyse.remeasured. notes: remarks for the reader, one per line."""

    record: StudyRecord
    searched: StudyRecord
    session: int
    frame: pd.DataFrame
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the findings as sentences."""
        left = self.frame[self.frame["was_on_front"] & ~self.frame["on_front"]]["number"]
        return [
            agreement(self.frame).line(),
            f"no longer on the front: {', '.join(f'trial {n}' for n in left) or 'none'}",
            *self.notes,
        ]


def remeasure(
    study: str | Path,
    *,
    rounds: int = ROUNDS,
    storage: str | None = None,
    command: str = "",
    on_progress: Callable[[int, int], None] = lambda _done, _of: None,
    tell: Callable[[str], None] = lambda _line: None,
) -> Remeasured:
    """Time the front and the trained published networks of a search again, A B A B, under the search's protocol.

    rounds: each times every network once. The new figure comes from all rounds together, or from the undisturbed ones
    if there are any. If rounds differ, more are made, and `tell` is called with a line on them. Nothing of an
    interrupted session is kept. `on_progress(measurements, of all)` is called after each. Users' own figures are not
    measured again.

    Raises:
        UserError: there is nothing to measure, the protocol cannot be followed here, a network's code has changed, or
            the storage failed.
    """
    if rounds < 1:
        raise UserError(f"at least one round is needed, got {rounds}")
    source = open_record(str(study), storage)
    searched = record_of(source)
    if "@" in searched.name:
        raise UserError(f"{searched.name} is not a search: measure {searched.name.partition('@')[0]} again")
    return _session(source, searched, rounds, command, on_progress, tell)


def _session(
    source: Record,
    searched: StudyRecord,
    rounds: int,
    command: str,
    on_progress: Callable[[int, int], None],
    tell: Callable[[str], None],
) -> Remeasured:
    front = front_members(searched)
    members = session_members(searched)
    protocol = _latency(members[0]).protocol
    with of_record(searched.own_code):
        rows = _time(members, protocol, rounds, on_progress, tell)
    with storage_faults():
        on_front = {trial.number for trial in front}
        found, session = keep_session(source, searched, members, rows, on_front, command)
    return Remeasured(found, searched, session, remeasured_frame(found), tuple(_notes(members, rows)))


def keep_session(
    source: Record,
    searched: StudyRecord,
    members: Sequence[TrialRow],
    rows: Sequence[Row],
    on_front: Collection[int],
    command: str,
) -> tuple[StudyRecord, int]:
    """Keep new latencies as one session in the study's sibling; return the sibling and the session's number.

    on_front: numbers of the trials that were on the front.
    """
    record = _sibling(source, searched, _latency(members[0]).protocol, command)
    session = max(sessions(record_of(record)), default=0) + 1
    for member, row in zip(members, rows, strict=True):
        _keep(record, searched, member, row, {SESSION: session, "searched_on_front": member.number in on_front})
    return record_of(record), session


def time_front_again(record: Record, look: Callable[[], None], tell: Callable[[str], None]) -> None:
    """Time the front in one session at the end of a search, unless a quiet session has timed all of it.

    look: called between measurements; if it raises, nothing is kept. Obstacles are told, not raised.
    """
    searched = record_of(record)
    known = latest_of(record)
    done = {_measured(t).arch_id for t in known.trials if SEARCHED_MS in t.extra and not is_disturbed(t)}
    try:
        members = session_members(searched)
        if {_measured(member).arch_id for member in members} <= done or _latency(members[0]).protocol.command:
            return
        tell(f"timing the front again, {counted(len(members), 'network')} in turns")
        for line in _session(record, searched, END_ROUNDS, "", lambda _done, _of: look(), tell).lines():
            tell(line)
    except UserError as error:
        tell(f"the front was not timed again: {error}")


def session_members(searched: StudyRecord) -> list[TrialRow]:
    """Return the front, networks that may be on it because their latency is doubtful, and trained published networks.

    Raises:
        UserError: no network keeps the limits.
    """
    found = {_measured(trial).arch_id: trial for trial in front_members(searched)}
    for trial, may_be in zip(searched.trials, may_be_on_front(searched), strict=True):
        if may_be:
            found.setdefault(_measured(trial).arch_id, trial)
    for trial in searched.trials:
        if PUBLISHED in trial.extra and outcome(trial) == "finished":
            found.setdefault(_measured(trial).arch_id, trial)
    return list(found.values())


def _time(
    members: list[TrialRow],
    protocol: LatencyProtocol,
    rounds: int,
    on_progress: Callable[[int, int], None],
    tell: Callable[[str], None],
) -> list[Row]:
    archs = {_measured(member).arch_id: _arch(member) for member in members}
    name = f"target-{digest(protocol.command)}" if protocol.command else protocol.device
    lock, done = DeviceLock(name), 0

    @contextmanager
    def exclusive() -> Iterator[None]:
        nonlocal done
        with lock.measuring():
            yield
        done += 1
        on_progress(done, max(rounds, ceil(done / len(archs))) * len(archs))

    try:
        return compare_latency(
            archs,
            protocol,
            base=next(iter(archs)),
            repeat=rounds,
            exclusive=exclusive,
            reference_ms=_latency(members[0]).reference_ms,
            tell=tell,
        )
    finally:
        lock.close()


def _arch(member: TrialRow) -> Arch:
    """Return a trial's network, which must still be the one that was searched."""
    assert member.arch is not None
    arch, known = arch_of(member.arch), _measured(member).arch_id
    if arch.id != known:
        raise UserError(
            f"trial {member.number} builds another network now ({arch.id}) than in the search ({known}): its code "
            "has changed; measure again with the code of the search"
        )
    return arch


def _sibling(source: Record, searched: StudyRecord, protocol: LatencyProtocol, command: str) -> Record:
    published = [  # the search's latencies are not comparable with a session's
        {**point, "figures": {name: value for name, value in point["figures"].items() if name != "latency_ms"}}
        for point in source.attributes().get("published", ())
    ]
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(protocol).items()}
    return sibling(
        source,
        searched,
        PURPOSE,
        {"latency protocol": plain},
        {
            "published": published,
            "question": f"The front of {searched.name}: its latencies measured again, in turns, in one session",
            "command": command or f"nasseg search {searched.name} --remeasure",
        },
    )


def _keep(record: Record, searched: StudyRecord, member: TrialRow, row: Row, more: dict[str, Any]) -> None:
    """Store a finished trial of the sibling: the member's figures with the new latency."""
    assert member.arch is not None
    measurement = replace(_measured(member), latency=replace(row.latency, energy=_latency(member).energy))
    names = {*USUAL, *(objective.name for objective in searched.objectives), *searched.limits}
    label = str(member.extra.get(PUBLISHED, ""))
    proposal, training = Proposal({}, {}, {}), dict(member.training)
    candidate = Candidate(proposal, dict(member.arch), measurement, member.seed or 0, label, training=training)
    broken = over_limit(searched.limits, measurement)
    attributes = {
        **candidate.attributes({name: value_of(name, measurement) for name in sorted(names)}),
        **{name: member.extra[name] for name in _KEPT if name in member.extra},
        **more,
        OF_TRIAL: member.number,
        SEARCHED_MS: _latency(member).p50_ms,
        ROUNDS_MS: [one.p50_ms for one in row.rounds],
        DISTURBED_ROUNDS: row.disturbed,
        **({"over_limit": broken} if broken else {}),
    }
    values = [value_of(objective.name, measurement) for objective in searched.objectives]
    trial = create_trial(state=TrialState.COMPLETE, values=values, user_attrs=attributes)  # type: ignore[arg-type]
    record.storage.create_new_trial(record.study_id, template_trial=trial)


def _notes(members: list[TrialRow], rows: list[Row]) -> Iterator[str]:
    latencies, here = [_latency(member) for member in members], environment()
    places, place = {_place(one) for one in latencies}, _place(rows[0].rounds[0])
    if places != {place}:
        yield f"the search measured on {', '.join(sorted(places))}; this session on {place}"
    versions = {one.environment.torch for one in latencies} - {here.torch}
    if versions:
        yield f"the search measured with torch {', '.join(sorted(versions))}; this session with {here.torch}"
    disturbed, total = sum(row.disturbed for row in rows), sum(len(row.rounds) for row in rows)
    if disturbed:
        yield f"other work was running in {disturbed} of {total} measurements: repeat this when the machine is quiet"
    own = {name for one in members for name, entry in _measured(one).custom.items() if entry["phase"] == "latency"}
    if any(one.energy for one in latencies):
        own.add("energy_mj")
    if own:
        yield f"not measured again: {', '.join(sorted(own))}"


def _place(latency: Latency) -> str:
    """Return the device of a latency."""
    if latency.protocol.backend == "command":
        return latency.target.get("device", latency.protocol.command)
    return latency.environment.device(latency.protocol.device)


def _measured(trial: TrialRow) -> Measurement:
    assert trial.measurement is not None
    return trial.measurement


def _latency(trial: TrialRow) -> Latency:
    latency = _measured(trial).latency
    assert latency is not None, "a search times what it trains"
    return latency
