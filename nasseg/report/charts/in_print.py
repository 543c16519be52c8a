"""The front as a figure for a paper: PDF, SVG or PNG, by matplotlib, without a browser.

It shows the same as the page's chart, in the same colours and shapes; `nasseg.report.numbers` computes it.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasseg.errors import UserError
from nasseg.files import ELSEWHERE, output_file
from nasseg.report.charts.front import GRID, INK, MUTED, PUBLISHED, mark
from nasseg.report.numbers.front_view import Axis, View
from nasseg.words import number, sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

FORMATS = ("pdf", "svg", "png")
SIZES_CM = {False: (8.5, 6.4), True: (17.5, 8.8)}  # width and height for a column, and for a page
_INCH = 2.54
_STYLE: Any = {
    "font.family": ["DejaVu Sans"],  # matplotlib ships it
    "font.size": 8,
    "legend.fontsize": 7,
    "axes.edgecolor": "#c3cad2",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,  # text stays text, as publishers require
    "svg.fonttype": "none",
    "svg.hashsalt": "nasseg",
}
_MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "pentagon": "p", "triangle-down": "v"}
_NO_DATE = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


def save_front(view: View, x: str, y: str, path: Path, wide: bool = False) -> None:
    """Draw the view over two of its axes. Equal views give equal files.

    Raises:
        UserError: the suffix is no format, matplotlib is not installed, or the file cannot be written.
    """
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise UserError(f"a figure is a .pdf, .svg or .png, got {path}; choose another name with -o")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("figures need matplotlib, which is not installed: pip install 'nasseg[figures]'") from None
    width, height = SIZES_CM[wide]
    with rc_context(_STYLE), output_file(path, ELSEWHERE) as partial:
        figure = Figure(figsize=(width / _INCH, height / _INCH), layout="constrained")
        draw_front(figure, view, view.axes[x], view.axes[y])
        figure.savefig(partial, format=form, dpi=300, metadata=_NO_DATE[form])


def draw_front(figure: "Figure", view: View, x: Axis, y: Axis) -> None:
    """Draw finished trials, the best trade-off, published networks and limits, with the legend inside."""
    axes = figure.add_subplot()
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    across, up = _places(view, x), _places(view, y)

    def at(rows: Sequence[int]) -> tuple[list[float], list[float]]:
        known = [row for row in rows if across[row] is not None and up[row] is not None]
        return [across[row] for row in known], [up[row] for row in known]

    for rows in view.steps.get(x.name, {}).get(y.name, []):
        drawn = "steps-pre" if x.direction == "maximize" else "steps-post"
        axes.plot(*at(rows), color="#9aa5b1", linewidth=0.9, drawstyle=drawn, zorder=1)
    for index, group in enumerate(view.groups):
        colour, symbol = mark(index)
        shape: dict[str, Any] = {"marker": _MARKERS[symbol], "linestyle": "none", "color": colour}
        axes.plot(
            *at(view.over[group] + view.unfinished[group]),
            **shape,
            markersize=3,
            markerfacecolor="none",
            markeredgewidth=0.6,
            zorder=2,
        )
        axes.plot(*at(view.dominated[group]), **shape, markersize=3, alpha=0.35, markeredgewidth=0, zorder=3)
        edge: dict[str, Any] = {"markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.6}
        axes.plot(*at(view.front[group]), **shape, **edge, label=group.replace("$", r"\$"), zorder=5)
    stars = [row for row in view.published if across[row] is not None and up[row] is not None]
    if stars:
        star: dict[str, Any] = {
            "marker": "*",
            "markersize": 7,
            "markerfacecolor": "white",
            "markeredgecolor": PUBLISHED,
        }
        axes.plot(*at(stars), **star, linestyle="none", markeredgewidth=0.8, label="published", zorder=6)
    for axis, side, values in ((axes.xaxis, x, across), (axes.yaxis, y, up)):
        _scale(axis, side, values, _texts(view, side))
    _draw_limits(axes, x, y)
    legend = axes.legend(loc="best", frameon=True, framealpha=0.85, edgecolor="none", borderpad=0.3, handletextpad=0.3)
    figure.draw_without_rendering()  # this lays it out
    names = [(across[row], up[row], view.names[row - view.published[0]]) for row in stars]
    _draw_names(axes, names, [legend.get_window_extent()], at([row for rows in view.front.values() for row in rows]))


def _places(view: View, axis: Axis) -> list[Any]:
    """Return each row's position on an axis: numbers at their value, texts one after the other."""
    places: dict[Any, int] = {text: place for place, text in enumerate(_texts(view, axis))}
    return [places.get(value, value) for value in view.columns[axis.name]]


def _texts(view: View, axis: Axis) -> list[str]:
    values: list[Any] = view.columns[axis.name]
    return sorted({value for value in values if isinstance(value, str)})


def _scale(axis: Any, side: Axis, places: Sequence[float | None], texts: Sequence[str]) -> None:
    """Give an axis its title and explicit ticks, and limit its range to what is drawn."""
    from matplotlib.ticker import FuncFormatter

    axis.axes.set(**{f"{axis.axis_name}label": sentence(side.label) + (f", {side.unit}" if side.unit else "")})
    if texts:
        axis.set_ticks(range(len(texts)), texts)
        return
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    if side.log:
        getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axis.set_ticks(log_ticks(*axis.get_view_interval()))
        axis.set_ticks([], minor=True)
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def log_ticks(low: float, high: float) -> list[float]:
    """Return ticks of a log axis: 1, 2, 5 in each decade; 1 to 9 if these are few, only 1 if they are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for digits in ((1,), (1, 2, 5), tuple(range(1, 10))):
        ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            break
    return ticks


def _draw_limits(axes: "Axes", x: Axis, y: Axis) -> None:
    """Draw a dashed line with its value for each limit within the range."""
    dashed: dict[str, Any] = {"color": MUTED, "linewidth": 0.8, "linestyle": (0, (4, 2)), "zorder": 4}
    words: dict[str, Any] = {"fontsize": 7, "color": MUTED, "textcoords": "offset points"}
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for value in x.limit.values():
        if left <= value <= right:
            axes.axvline(value, **dashed)
            label = f"limit {number(value, x.unit)}"
            place: dict[str, Any] = {
                "xycoords": axes.get_xaxis_transform(),
                "rotation": 90,
                "ha": "right",
                "va": "bottom",
            }
            axes.annotate(label, (value, 0), xytext=(-2, 3), **place, **words)
    for value in y.limit.values():
        if low <= value <= high:
            axes.axhline(value, **dashed)
            label = f"limit {number(value, y.unit)}"
            place = {"xycoords": axes.get_yaxis_transform(), "ha": "right", "va": "top"}
            axes.annotate(label, (1, value), xytext=(-2, -2), **place, **words)
    axes.set(xlim=(left, right), ylim=(low, high))


# Where a name may be placed around its star: the offset in points, and the anchored side of the text.
_AROUND = [((0, 5), "center", "bottom"), ((0, -5), "center", "top"), ((5, 0), "left", "center")]
_AROUND += [((-5, 0), "right", "center"), ((4, 4), "left", "bottom"), ((-4, 4), "right", "bottom")]
_AROUND += [((4, -4), "left", "top"), ((-4, -4), "right", "top")]


def _draw_names(
    axes: "Axes", names: Sequence[tuple[float, float, str]], taken: list["Bbox"], front: tuple[Any, Any]
) -> None:
    """Write the names of published networks without covering another name, a star or, if possible, a mark of the front.

    A name that finds no place is left out.
    """
    from matplotlib.transforms import Bbox

    def boxes(points: Any, half: float) -> list[Bbox]:
        pixels: Any = axes.transData.transform([*points]) if len(points) else []
        return [Bbox.from_extents(px - half, py - half, px + half, py + half) for px, py in pixels]

    scale = axes.figure.dpi / 72
    taken = [*taken, *boxes([(px, py) for px, py, _ in names], 3.5 * scale)]
    marks, inside = boxes(list(zip(*front, strict=True)), 2.5 * scale), axes.get_window_extent()
    for px, py, name in names:
        tries = []
        for order, (offset, ha, va) in enumerate(_AROUND):
            look: dict[str, Any] = {"fontsize": 7, "ha": ha, "va": va, "zorder": 7, "parse_math": False}
            text = axes.annotate(name, (px, py), offset, textcoords="offset points", **look)
            box = text.get_window_extent()
            whole = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if whole and not box.count_overlaps(taken):
                tries.append((box.count_overlaps(marks) if marks else 0, order, text, box))
            else:
                text.remove()
        tries.sort(key=lambda one: one[:2])
        for *_, text, _ in tries[1:]:
            text.remove()
        taken += [box for *_, box in tries[:1]]
