"""Panels that every service has: calls, latency by phase, saturation, errors; for one service at a time."""

from dataclasses import dataclass

from deploy.grafana.model import Panel, Query, Threshold, Variable
from deploy.grafana.promql import PERCENTILES, Scope
from deploy.grafana.variables import PERCENTILE, RUN
from rlad_core import metrics

ERROR_SHARE = 0.01
"""Share of failed calls from which on people are told."""


@dataclass(frozen=True)
class ServicePanels:
    """Panels of one service.

    Attributes:
        name: the label `service`.
        deployment: what Serve calls it.
        knob: what to change where it is saturated.
    """

    name: str
    deployment: str
    knob: str

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
        healthy = f'ray_serve_deployment_replica_healthy{{deployment="{self.deployment}"'
        return (
            RUN,
            Variable("application", "Application", f"label_values({healthy}}}, application)"),
            Variable(
                "deployment",
                "Deployment",
                f'label_values({healthy}, application=~"$application"}}, deployment)',
            ),
            PERCENTILE,
        )

    def calls(self) -> Panel:
        """Calls a second."""
        return Panel(
            "Calls",
            [Query(self.scope.rate(metrics.SERVICE_REQUESTS, "kind"), "{{application}} {{kind}}")],
            "reqps",
            "Calls taken a second: by handle from inside the cluster, as JSON or Arrow over HTTP.",
            "Bursts with the steps of the runs that use it.",
            "None at all while a run is going on: it waits for something else, see Training run.",
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
        )

    def latency(self) -> Panel:
        """Percentiles of a call."""
        return Panel(
            "Latency of a call",
            [
                Query(self.scope.quantile(metrics.SERVICE_DURATION, p), f"{{{{application}}}} {p}")
                for p in PERCENTILES
            ],
            "s",
            "Percentiles of the time from taking a call to its answer, over five minutes.",
            "Flat, and p99 within three times p50.",
            "By phase, beside this, says what the time goes to.",
        )

    def phases(self) -> Panel:
        """The chosen percentile by phase."""
        return Panel(
            "Latency by phase, $percentile",
            [
                Query(
                    self.scope.quantile(metrics.SERVICE_PHASE_DURATION, "$percentile", "phase"),
                    "{{application}} {{phase}}",
                )
            ],
            "s",
            "The chosen percentile of each phase: read and check a call, wait, compute, write the answer.",
            "Engine has nearly all of it.",
            f"Queue: {self.knob}. Decode or encode: requests are very large, or their bodies are JSON "
            "and not Arrow.",
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
        )

    def errors(self) -> Panel:
        """Failed calls."""
        return Panel(
            "Errors",
            [Query(self.scope.rate(metrics.SERVICE_ERRORS, "kind"), "{{application}} {{kind}}")],
            "cps",
            "Calls that failed, by the exception's class.",
            "None.",
            "The class says whose fault it is: InvalidRequestError is the caller's, BusyError is overload, "
            "and an engine's error is in the replica's log.",
            empty_when_well="a service without errors has no such series",
        )

    def error_share(self) -> Panel:
        """Failed calls of all calls."""
        failed, all_calls = map(self.scope.rate, (metrics.SERVICE_ERRORS, metrics.SERVICE_REQUESTS))
        return Panel(
            "Share of failed calls",
            [Query(f"({failed}) / ({all_calls})", "{{application}}")],
            "percentunit",
            "Failed calls by all calls.",
            "Nothing.",
            "There is an alert from 1% on, for ten minutes; see Errors for the kinds.",
            thresholds=[Threshold(ERROR_SHARE, "red")],
            empty_when_well="a service without errors has no such series",
        )

    def limits(self) -> Panel:
        """What was refused."""
        return Panel(
            "Refused at a limit",
            [Query(self.scope.rate(metrics.SERVICE_LIMITS, "kind"), "{{application}} {{kind}}")],
            "reqps",
            "Calls refused, by the limit that they hit.",
            "None.",
            f"queue and time: {self.knob}. sequences, tokens, body: the caller should send smaller requests.",
            empty_when_well="a healthy service refuses nothing",
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
                Query(scope.total("ray_serve_deployment_queued_queries"), "{{application}} waiting"),
                Query(scope.total("ray_serve_replica_processing_queries"), "{{application}} in work"),
            ],
            "none",
            "Calls that Serve holds because all replicas are full, and calls that replicas work on.",
            "Waiting is 0 but for moments.",
            f"Waiting for minutes is saturation, with an alert: {self.knob}.",
            axis="calls",
        )
