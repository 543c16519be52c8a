"""Reports: rows of studies' records -> figures -> HTML pages. Nothing here needs torch."""

from nasseg.report.write import write_index, write_report

__all__ = ["write_index", "write_report"]
