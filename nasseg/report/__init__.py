"""Reports: rows of a study's record -> figures -> one HTML page. Nothing here needs torch."""

from nasseg.report.page import write_report

__all__ = ["write_report"]
