"""What Prometheus is told; names are TensorFlow Serving's, with underscores for its colons."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = tuple(2**exponent for exponent in range(11))


class Metrics:
    """The counters of one server.

    Attributes:
        requests: by `model_name`, `method`, `entrypoint` (grpc or rest) and `status`. Names that are no
            model's are counted as one, so that clients cannot make the table grow.
        request_seconds: from a request read to its answer ready, by `model_name`, `method` and `entrypoint`.
        queue_seconds: time before a request runs.
        batch_rows: windows that ran as one.
        versions: by `model_name` and `version`, 1 while it is available.
        loads: by `model_name` and `status`: attempts to load a version.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        prefix = "tensorflow_serving"
        self.requests = Counter(
            f"{prefix}_request_count",
            "Requests that were answered.",
            ["model_name", "method", "entrypoint", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            f"{prefix}_request_latency_seconds",
            "From a request read to its answer ready.",
            ["model_name", "method", "entrypoint"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            f"{prefix}_batching_session_queuing_latency_seconds",
            "Time before a request runs.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_rows = Histogram(
            f"{prefix}_batching_session_processed_batch_size",
            "Windows that ran as one.",
            buckets=_ROWS,
            registry=self.registry,
        )
        self.versions = Gauge(
            f"{prefix}_model_version_available",
            "1 while the version is available.",
            ["model_name", "version"],
            registry=self.registry,
        )
        self.loads = Counter(
            f"{prefix}_model_loads",
            "Attempts to load a version.",
            ["model_name", "status"],
            registry=self.registry,
        )
