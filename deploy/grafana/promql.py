"""PromQL for declared metrics, written so that runs, replicas and restarts do not blur each other.

How Ray exports them decides the forms below:

- A counter lives as long as its node's agent, also after its process has died; a successor counts anew in a
  series of its own (`WorkerId`). So sums over processes are right, and nothing ever falls within a series.
- A series begins with its first value, not with 0, and `increase` would miss that one: `grown` does not.
- A gauge ends some 20 s after its process. Values that a run has once are the maximum over processes, so that
  a predecessor's last value, still there for these seconds, is not added to its successor's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rlad_core import metrics
from rlad_core.metric_specs import MetricSpec


def exported(metric: MetricSpec | str) -> str:
    """A declared metric's name as Ray exports it; a string is such a name already."""
    return metric if isinstance(metric, str) else f"ray_{metric.name}"


@dataclass(frozen=True)
class Scope:
    """Which series a dashboard is about.

    Attributes:
        matchers: of every query.
        by: labels that its panels keep apart.
    """

    matchers: tuple[str, ...]
    by: tuple[str, ...] = ()

    def select(self, metric: MetricSpec | str, *more: str) -> str:
        """The series of a metric, further cut down by matchers."""
        return f"{exported(metric)}{{{', '.join((*self.matchers, *more))}}}"

    def largest(self, metric: MetricSpec | str, *by: str) -> str:
        """A gauge that has one value for each group of labels."""
        return f"max by ({self._labels(by)}) ({self.select(metric)})"

    def total(self, metric: MetricSpec | str, *by: str) -> str:
        """A gauge that adds up over processes."""
        return f"sum by ({self._labels(by)}) ({self.select(metric)})"

    def rate(self, metric: MetricSpec | str, *by: str, matchers: Sequence[str] = ()) -> str:
        """How much a counter grows a second."""
        return f"sum by ({self._labels(by)}) (rate({self.select(metric, *matchers)}[$__rate_interval]))"

    def grown(self, metric: MetricSpec | str, *by: str) -> str:
        """How much a counter grew over the time range, exactly and from its beginning on."""
        series, labels = self.select(metric), self._labels(by)
        now = f"sum by ({labels}) (max_over_time({series}[$__range]))"
        before = f"sum by ({labels}) ({series} offset $__range)"
        return f"{now} - ({before} or {now} * 0)"

    def mean(self, seconds: MetricSpec | str, histogram: MetricSpec | str, *by: str) -> str:
        """Mean length over the time range: exact seconds by the number of observations."""
        return f"({self.grown(seconds, *by)}) / ({self.grown(f'{exported(histogram)}_count', *by)})"

    def quantile(self, metric: MetricSpec | str, percentile: str, *by: str) -> str:
        """A recorded quantile, see `recording`; `percentile` is one of `PERCENTILES` or a variable."""
        matcher = f'percentile="{percentile}"'
        return f"max by ({self._labels(by)}) ({self.select(recorded(metric), matcher)})"

    def quantile_bound(self, metric: MetricSpec | str, percentile: str, *by: str) -> str:
        """The end of a histogram's buckets that a quantile lies beyond, with a label `side`: under or over.

        There the quantile itself is not recorded: it would be the middle of a bucket that has no other end.
        """
        matcher = f'percentile=~"{percentile}"'
        return f"max by ({self._labels((*by, 'percentile', 'side'))}) ({self.select(bound(metric), matcher)})"

    def last_quantile(self, metric: MetricSpec | str, percentile: str, *by: str) -> str:
        """The last recorded quantile of the time range, also of a run that is over."""
        series = self.select(recorded(metric), f'percentile="{percentile}"')
        return f"max by ({self._labels(by)}) (last_over_time({series}[$__range]))"

    def _labels(self, by: Sequence[str]) -> str:
        return ", ".join((*self.by, *by))


def of_chosen_runs(query: str) -> str:
    """A query of Serve's series, which have no label `run`, without the applications of runs not chosen.

    Whose an application is, its first call tells; until then it is not left out, so that no panel is empty.
    """
    calls = f'{exported(metrics.SERVICE_REQUESTS)}{{run!~"$run"}}'
    return f"({query}) unless on (application) group by (application) (last_over_time({calls}[$__range]))"


def bound(metric: MetricSpec | str) -> str:
    """Name under which the ends of its buckets are recorded, while a quantile lies beyond one."""
    return f"{recorded(metric)}_bound"


def recorded(metric: MetricSpec | str) -> str:
    """Name under which a histogram's quantiles are recorded."""
    return f"rlad:{exported(metric).removeprefix('ray_').removeprefix('rlad_')}:quantile"
