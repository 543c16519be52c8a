"""What a filled table warns of."""

import pytest

from nasseg.tables.fill import _too_small
from nasseg.tables.table_file import load_table


@pytest.mark.slow
def test_images_too_small_for_what_is_compared_are_a_caveat() -> None:
    def too_small(name: str, size: tuple[int, int]) -> str | None:
        chosen = load_table(name)
        column = next(column for column in chosen.file.columns.values() if column.accuracy)
        return _too_small(chosen, column, [row.name for row in chosen.file.rows], size)

    assert too_small("regseg/table-4", (256, 512)) == (
        "fields of view of up to 4,095 px are compared, but on images of 256 x 512 all above 1,023 px are equivalent"
    )
    assert too_small("regseg/table-4", (1024, 2048)) is None
    assert too_small("regseg/table-5", (256, 512)) is None  # all rows have one backbone
    assert too_small("dabnet/table-2a", (256, 512)) is None  # 575, 927 and 1,087 px stay different
