"""Reports: rows of studies' records -> figures -> HTML pages. They need no torch."""

from nasseg.report.write import write_index, write_report

__all__ = ["write_index", "write_report"]
