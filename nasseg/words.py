"""Numbers, times and plain data in words."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

NOTHING = "–"  # noqa: RUF001


def differences(before: Any, now: Any, name: str = "") -> str:
    """Return the keys in which two settings differ, nested ones too: `recipe.steps: it has 3, now 4; ...`."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = sorted({*before, *now})
        found = (differences(before.get(k), now.get(k), f"{name}.{k}" if name else str(k)) for k in keys)
        return "; ".join(filter(None, found))
    return "" if before == now else f"{name}: it has {before!r}, now {now!r}"


def duration(seconds: float) -> str:
    """Return a duration in words: 4.2 s, 45 s, 12 min 30 s, 3 h 05 min, 120 h."""
    if seconds < 9.5:
        return f"{seconds:.2g} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours:,} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def sentence(text: str) -> str:
    """Return the text with a capital first letter, unless its first word has capitals of its own (mIoU)."""
    word = text.split(" ", 1)[0]
    return text if any(c.isupper() for c in word) else text[:1].upper() + text[1:]


def number(value: float | None, unit: str = "") -> str:
    """Return four digits and the unit: 4.914 G, 57.12 %, 13.25 ms, 21.4 MB.

    k, M, G and T stand for thousands where there is no unit, or the unit is B (bytes).
    """
    if value is None or math.isnan(value):
        return NOTHING
    size = abs(value)
    if size < 1e4:
        return f"{value:.4g} {unit}" if unit else f"{value:.4g}"
    if math.isfinite(value) and unit in ("", "B"):
        power = min(4, int(math.log10(size) // 3))
        scaled = f"{value / 1000**power:.4g}"
        if abs(float(scaled)) >= 1000 and power < 4:  # 999,999 rounds up into the next prefix
            power += 1
            scaled = f"{value / 1000**power:.4g}"
        return f"{scaled} {'kMGT'[power - 1]}{unit}"
    text = f"{value:,.0f}" if size < 1e15 else f"{value:.4g}"
    return f"{text} {unit}".rstrip()


def empty_front(study: str) -> str:
    """Return what to say of a front without networks."""
    return f"no network was trained to the end: the front of {study} is empty; `nasseg status {study}` says why"


def difference(value: float, unit: str = "") -> str:
    """Return how far two figures are apart. Percentages differ in points: 2 % more of 50 % is 1 point."""
    return number(float(f"{abs(value):.3g}"), "points" if unit == "%" else unit)


def counted(count: int, noun: str) -> str:
    """Return how many there are: 1 network, 1,204 networks."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(share: float) -> str:
    """Return a share (0..1) in percent with two digits, never rounded up to certainty: 0.3 %, 12 %, over 99 %."""
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{100 * share:.2g} %" if 100 * share < 99.5 else "100 %"


def plain(value: Any) -> str:
    """Return plain data, such as a field of an architecture, as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(plain(item) for item in value) + ")"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    return NOTHING if value is None or value == "" else str(value)


def moment(text: str | None) -> str:
    """Return an ISO 8601 time to the second."""
    return (text or "").replace("T", " ").partition(".")[0]


class LocalTime:
    """Convert times: databases hold UTC without a mark, Optuna shows local time.

    The offset is looked up once an hour.
    """

    def __init__(self) -> None:
        self._offsets: dict[tuple[int, ...], timedelta] = {}

    def __call__(self, time: datetime | str | None) -> str | None:
        found = self.at(time)
        return found.isoformat() if found else None

    def at(self, time: datetime | str | None) -> datetime | None:
        if time is None:
            return None
        stored = datetime.fromisoformat(time) if isinstance(time, str) else time
        if stored.tzinfo:
            stored = stored.astimezone(UTC).replace(tzinfo=None)
        hour = (stored.year, stored.month, stored.day, stored.hour)
        if hour not in self._offsets:
            self._offsets[hour] = stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None) - stored
        return stored + self._offsets[hour]
