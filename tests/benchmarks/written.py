"""The parts of a README that a benchmark writes: between two marks."""

from pathlib import Path

from nasseg.files import written_whole

END = "<!-- end -->\n"


def write_between_marks(readme: Path, benchmark: str, text: str) -> None:
    """Replace what stands between the marks of a benchmark."""
    mark = f"<!-- written by {benchmark} -->\n"
    before, begin, rest = readme.read_text().partition(mark)
    assert begin, f"{readme} lacks {mark!r}"
    with written_whole(readme) as partial:
        partial.write_text(before + begin + text + END + rest.partition(END)[2])
