"""Panels that every service has: calls, latency by phase, saturation, errors; for one service at a time."""

from dataclasses import dataclass

from deploy.grafana.model import Panel, Query, Threshold, Variable
from deploy.grafana.promql import Scope, of_chosen_runs
from deploy.grafana.quantiles import chosen, percentiles
from deploy.grafana.variables import PERCENTILE, RUN, services
from rlad_core import metrics

ERROR_SHARE = 0.01
"""Share of failed calls from which on people are told."""
ANY = 0.001
"""A rate that any event within the last minutes exceeds."""
QUEUED = (Threshold(1344, "yellow"), Threshold(4838, "red"))
"""Calls in a queue of Serve's, of the 5,376 that it takes by default; at the second, nine tenths of whatever
`rlad_service_calls_queue_limit` tells, there is an alert."""


@dataclass(frozen=True)
class ServicePanels:
    """Panels of one service.

    Attributes:
        name: the label `service`.
        deployment: what Serve calls it.
        knob: what to change where it is saturated.
        slow_s, limit_s: seconds of a call that are more than usual, and the longest that its settings allow.
    """

    name: str
    deployment: str
    knob: str
    slow_s: float
    limit_s: float

    @property
    def slow(self) -> tuple[Threshold, Threshold]:
        """Thresholds of a call's time."""
        return Threshold(self.slow_s, "yellow"), Threshold(self.limit_s, "red")

    @property
    def scope(self) -> Scope:
        """The chosen applications of this service."""
        return Scope(
            (
                'run=~"$run"',
                f'service="{self.name}"',
                'application=~"$application"',
                'deployment=~"$deployment"',
            ),
            ("run", "application"),
        )

    @property
    def variables(self) -> tuple[Variable, ...]:
        """What there is to choose."""
        return (RUN, *services(f'service="{self.name}"'), PERCENTILE)

    def calls(self) -> Panel:
        """Calls a second."""
        return Panel(
            "Calls",
            [Query(self.scope.rate(metrics.SERVICE_REQUESTS, "kind"), "{{application}} {{kind}}")],
            "reqps",
            "Calls taken a second: by handle from inside the cluster, as JSON or Arrow over HTTP.",
            "Bursts with the steps of the runs that use it.",
            "None at all while a run is going on: it waits for something else, see Training run.",
            unjudged="traffic is what the runs make it",
        )

    def tokens(self, verb: str) -> Panel:
        """Tokens a second."""
        return Panel(
            "Tokens",
            [Query(self.scope.rate(metrics.SERVICE_TOKENS, "kind"), "{{application}} {{kind}}")],
            "short",
            f"Tokens a second: prompts, and what was {verb}.",
            "What the hardware gave in the benchmark, while there is work.",
            "Lower with a queue: the engine is slow; batches say whether they are full.",
            axis="tokens/s",
            unjudged="it depends on the hardware and on the work there is",
        )

    def sequences(self) -> Panel:
        """Sequences a second, by replica."""
        return Panel(
            "Sequences by replica",
            [Query(self.scope.rate(metrics.SERVICE_SEQUENCES, "replica"), "{{application}} {{replica}}")],
            "short",
            "Sequences that each replica answers a second.",
            "Replicas are about equal.",
            "One that answers less is starting, unhealthy, or on a machine that is shared.",
            axis="sequences/s",
            unjudged="it depends on the hardware and on the work there is",
        )

    def latency(self) -> Panel:
        """Percentiles of a call."""
        return Panel(
            "Latency of a call",
            percentiles(self.scope, metrics.SERVICE_DURATION, "{{application}}"),
            "s",
            "Percentiles of the time from taking a call to its answer, over five minutes.",
            "Flat, and p99 within three times p50.",
            "By phase, beside this, says what the time goes to.",
            logarithmic=True,
            thresholds=self.slow,
        )

    def phases(self) -> Panel:
        """The chosen percentile by phase."""
        return Panel(
            "Latency by phase, $percentile",
            chosen(self.scope, metrics.SERVICE_PHASE_DURATION, "{{application}} {{phase}}", "phase"),
            "s",
            "The chosen percentile of each phase: read and check a call, wait, compute, write the answer.",
            "Engine has nearly all of it.",
            f"Queue: {self.knob}. Decode or encode: requests are very large, or their bodies are JSON "
            "and not Arrow.",
            logarithmic=True,
            thresholds=self.slow,
        )

    def phase_means(self) -> Panel:
        """Exact means by phase."""
        return Panel(
            "Mean time by phase",
            [
                Query(
                    self.scope.mean(metrics.SERVICE_PHASE_SECONDS, metrics.SERVICE_PHASE_DURATION, "phase"),
                    "{{application}} {{phase}}",
                )
            ],
            "s",
            "Mean time that a call of the time range spent in each phase, from exact seconds.",
            "As in the benchmark, for calls of the same size.",
            "See the latency by phase for when it changed.",
            kind="bargauge",
            thresholds=self.slow,
        )

    def in_flight(self) -> Panel:
        """Open calls by replica."""
        return Panel(
            "Calls in work by replica",
            [Query(self.scope.total(metrics.SERVICE_IN_FLIGHT, "replica"), "{{application}} {{replica}}")],
            "none",
            "Calls taken and not yet answered.",
            "Below the service's `max_ongoing_requests`, and equal over replicas.",
            f"At the limit callers wait in Serve's queue: {self.knob}.",
            axis="calls",
            thresholds=[Threshold(192, "yellow"), Threshold(256, "red")],  # of 256 by default
        )

    def errors(self) -> Panel:
        """Failed calls."""
        return Panel(
            "Errors",
            [
                Query(
                    self.scope.rate(metrics.SERVICE_ERRORS, "kind"),
                    "{{application}} {{kind}}",
                    empty_when_well="a service without errors has no such series",
                )
            ],
            "cps",
            "Calls that failed, by the exception's class.",
            "None.",
            "The class says whose fault it is: InvalidRequestError is the caller's, BusyError is overload, "
            "and an engine's error is in the replica's log.",
            thresholds=[Threshold(ANY, "red")],
        )

    def error_share(self) -> Panel:
        """Failed calls of all calls."""
        failed, all_calls = map(self.scope.rate, (metrics.SERVICE_ERRORS, metrics.SERVICE_REQUESTS))
        return Panel(
            "Share of failed calls",
            [
                Query(
                    f"({failed}) / ({all_calls})",
                    "{{application}}",
                    empty_when_well="a service without errors has no such series",
                )
            ],
            "percentunit",
            "Failed calls by all calls.",
            "Nothing.",
            "There is an alert from 1% on, for ten minutes; see Errors for the kinds.",
            thresholds=[Threshold(ERROR_SHARE, "red")],
        )

    def limits(self) -> Panel:
        """What was refused."""
        return Panel(
            "Refused at a limit",
            [
                Query(
                    self.scope.rate(metrics.SERVICE_LIMITS, "kind"),
                    "{{application}} {{kind}}",
                    empty_when_well="a healthy service refuses nothing",
                )
            ],
            "reqps",
            "Calls refused, by the limit that they hit.",
            "None.",
            f"queue and time: {self.knob}. sequences, tokens, body: the caller should send smaller requests.",
            thresholds=[Threshold(ANY, "yellow"), Threshold(1, "red")],
        )

    def serve_queue(self) -> Panel:
        """What waits in Serve for a replica."""
        scope = Scope(
            ('application=~"$application"', 'deployment=~"$deployment"', f'deployment="{self.deployment}"'),
            ("application",),
        )
        return Panel(
            "Waiting for a replica",
            [
                Query(of_chosen_runs(scope.total(name)), f"{{{{application}}}} {what}")
                for name, what in (
                    ("ray_serve_deployment_queued_queries", "waiting"),
                    ("ray_serve_replica_processing_queries", "in work"),
                )
            ]
            + [Query(self.scope.largest(metrics.SERVICE_CALLS_QUEUE), "{{application}} most that may wait")],
            "none",
            "Calls that Serve holds because all replicas are full, how many it may, and those in work.",
            "Waiting is 0 but for moments.",
            f"Waiting for minutes is saturation, with an alert once calls are refused: {self.knob}.",
            axis="calls",
            thresholds=QUEUED,
        )
