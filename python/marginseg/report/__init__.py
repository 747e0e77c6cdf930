"""The report of a study: tables, intervals, claims, figures and one page.

It is made from what the runs left in the study's folder, and from nothing else. The ceilings of a
data set, which need no study, are told in the same way; and so is which rule is best for a network.
"""

from marginseg.report.ceilings import summarise_ceilings, write_ceilings
from marginseg.report.evaluations import write_evaluation
from marginseg.report.summary import differences_table, summary_table
from marginseg.report.terminal import ceilings_table, evaluation_table, rich_table
from marginseg.report.writing import write_report

__all__ = [
    "ceilings_table",
    "differences_table",
    "evaluation_table",
    "rich_table",
    "summarise_ceilings",
    "summary_table",
    "write_ceilings",
    "write_evaluation",
    "write_report",
]
