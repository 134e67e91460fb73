"""What an evaluation reports. Knows verdicts only, not where they come from.

In: right or wrong of each response, by subset and prompt. Out: `EvaluationRow`s (Mean@k, Pass@k, intervals
over problems), `PairedRow`s (two models compared), `Difference`s (two methods over several seeds), and a word
for why a response is wrong. Called by: evaluate and report of the services.
"""

from rlad_core.evaluation.answers import ANSWERS, PER_TOKEN, latest_of, rows_of, verdicts_of
from rlad_core.evaluation.crossed import Scores
from rlad_core.evaluation.faults import FORMLESS, Fault, fault_of
from rlad_core.evaluation.intervals import Interval, accuracy_interval, mean_interval, share_interval, wilson
from rlad_core.evaluation.measures import ks_of, mean_at_k, pass_at_k
from rlad_core.evaluation.over_seeds import (
    Difference,
    Estimate,
    Pair,
    difference,
    differences,
    estimate,
    estimates,
    scores_of,
)
from rlad_core.evaluation.p_values import holm, paired_t_test
from rlad_core.evaluation.paired import PairedRow, Verdicts, mcnemar, paired_rows
from rlad_core.evaluation.rows import ALL, AVERAGE, EvaluationRow, Share, evaluation_rows, overall

__all__ = [
    "ALL",
    "ANSWERS",
    "AVERAGE",
    "FORMLESS",
    "PER_TOKEN",
    "Difference",
    "Estimate",
    "EvaluationRow",
    "Fault",
    "Interval",
    "Pair",
    "PairedRow",
    "Scores",
    "Share",
    "Verdicts",
    "accuracy_interval",
    "difference",
    "differences",
    "estimate",
    "estimates",
    "evaluation_rows",
    "fault_of",
    "holm",
    "ks_of",
    "latest_of",
    "mcnemar",
    "mean_at_k",
    "mean_interval",
    "overall",
    "paired_rows",
    "paired_t_test",
    "pass_at_k",
    "rows_of",
    "scores_of",
    "share_interval",
    "verdicts_of",
    "wilson",
]
