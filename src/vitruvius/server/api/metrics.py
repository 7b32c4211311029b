"""Figures for Prometheus, with vLLM's names where they mean the same, so that its dashboards show them.

Counters and histograms are kept per model, for as long as the server runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ...inference.request import Token
from .models import LiveModel, Models
from .ticket import Flight, Ticket

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
BETWEEN = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2)
CONTENT_TYPE = CONTENT_TYPE_LATEST
MODEL = "model_name"


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        disable_created_metrics()  # when a counter began is of no use, and doubles the text
        self._registry = CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"vllm:{name}", about, [MODEL, *labels], registry=self._registry)

        def histogram(name: str, about: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(f"vllm:{name}", about, [MODEL], buckets=buckets, registry=self._registry)

        def gauge(name: str, about: str) -> Gauge:
            return Gauge(f"vllm:{name}", about, [MODEL], registry=self._registry)

        self._prompt = counter("prompt_tokens", "Tokens of prompts.")
        self._generation = counter("generation_tokens", "Tokens written.")
        self._queries = counter(
            "prefix_cache_queries", "Tokens of prompts that were looked for among those remembered."
        )
        self._hits = counter("prefix_cache_hits", "Tokens of prompts that were remembered from before.")
        self._success = counter("request_success", "Requests that have ended.", "finished_reason")
        self._drafts = counter("spec_decode_num_draft_tokens", "Tokens guessed.")
        self._accepted = counter("spec_decode_num_accepted_tokens", "Guesses that were right.")
        self._first = histogram("time_to_first_token_seconds", "Until the first token.", SECONDS)
        self._between = histogram("inter_token_latency_seconds", "From a token to the next.", BETWEEN)
        self._whole = histogram("e2e_request_latency_seconds", "Until the last token.", SECONDS)
        self._running = gauge("num_requests_running", "Requests at work.")
        self._waiting = gauge("num_requests_waiting", "Requests that wait.")
        self._usage = gauge("kv_cache_usage_perc", "Share of the memory for states that is set aside (1: all).")
        self._preempted = gauge("num_preemptions_total", "Requests that gave way and read their text again.")
        self._began: dict[Ticket, tuple[str, float, float]] = {}  # model, when it began, when its last token came

    def begin(self, model: str, flight: Flight) -> None:
        """Requests are on their way."""
        now = perf_counter()
        self._began |= dict.fromkeys(flight.tickets, (model, now, 0.0))

    def written(self, ticket: Ticket, tokens: Sequence[Token]) -> None:
        """More tokens of a request."""
        model, began, last = self._began[ticket]
        now = perf_counter()
        if tokens:
            (self._between.labels(model) if last else self._first.labels(model)).observe(now - (last or began))
            for _ in tokens[1:]:  # those that came in one step
                self._between.labels(model).observe(0.0)
            self._began[ticket] = model, began, now
        self._generation.labels(model).inc(len(tokens))

    def ended(self, ticket: Ticket) -> None:
        """A request has ended by itself."""
        model, began, _ = self._began.pop(ticket)
        assert ticket.completion
        timing = ticket.completion.timing
        reason = {"eos": "stop", "context": "length"}.get(str(ticket.completion.finish), str(ticket.completion.finish))
        self._success.labels(model, reason).inc()
        self._whole.labels(model).observe(perf_counter() - began)
        self._prompt.labels(model).inc(timing.prompt)
        self._queries.labels(model).inc(timing.prompt)
        self._hits.labels(model).inc(timing.reused)
        self._drafts.labels(model).inc(timing.guessed)
        self._accepted.labels(model).inc(timing.accepted)

    def given_up(self, flight: Flight) -> None:
        """A call has ended; those of its requests that had not are counted as aborted."""
        for ticket in flight.tickets:
            if found := self._began.pop(ticket, None):
                self._success.labels(found[0], "abort").inc()

    def text(self, models: Models) -> bytes:
        """All figures, as they are now."""
        for live in models.live:
            self._gauges(live, models)
        return generate_latest(self._registry)

    def _gauges(self, live: LiveModel, models: Models) -> None:
        name, scheduler = live.offer.name, live.resident.scheduler
        self._running.labels(name).set(scheduler.running)
        self._waiting.labels(name).set(scheduler.waiting)
        self._usage.labels(name).set(scheduler.reserved / max(1, models.worker.memory - live.offer.weights))
        self._preempted.labels(name).set(scheduler.preempted)
