"""Prometheus metrics of the edit service, under vLLM's names with the prefix `earl:`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
_BETWEEN = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Metrics:
    """The service's figures, each with the label `model_name`. Requests and images are counted apart."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        label = ("model_name",)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"earl:{name}", text, label, registry=self.registry).labels(model)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"earl:{name}", text, label, registry=self.registry).labels(model)

        def histogram(name: str, text: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            made = Histogram(f"earl:{name}", text, label, registry=self.registry, buckets=buckets)
            return made.labels(model)

        self.running = gauge("num_requests_running", "Requests that are being sampled")
        self.waiting = gauge("num_requests_waiting", "Requests that wait for a place")
        self.held = gauge("num_images_held", "Places of the queue that are taken, one for each image")
        self.queue_seconds = histogram("request_queue_time_seconds", "From arrival to sampling")
        self.request_seconds = histogram("e2e_request_latency_seconds", "From arrival to the last image")
        self.first_seconds = histogram("time_to_first_token_seconds", "From arrival to the first row")
        self.token_seconds = histogram("inter_token_latency_seconds", "Seconds per sampled id", _BETWEEN)
        self.prompt_tokens = counter("prompt_tokens", "Ids of prompts")
        self.tokens = counter("generation_tokens", "Ids sampled or forced")
        self._ended = Counter(
            "earl:request_success", "Requests that ended", (*label, "finished_reason"), registry=self.registry
        )
        self._model = model

    def ended(self, reason: str) -> None:
        """Count a request that ended: stop, length, abort, deadline or error."""
        self._ended.labels(self._model, reason).inc()

    def text(self) -> bytes:
        """The text of `/metrics`."""
        return generate_latest(self.registry)
