"""The report of a study: tables, intervals, claims, figures and one page.

It is made from what the runs left in the study's folder, and from nothing else.
"""

from marginseg.report.summary import differences_table, summary_table
from marginseg.report.terminal import rich_table
from marginseg.report.writing import write_report

__all__ = ["differences_table", "rich_table", "summary_table", "write_report"]
