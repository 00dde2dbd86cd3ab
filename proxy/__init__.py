"""readygate: a sidecar that opens a WebSocket only when both ends have proved that they are ready."""

__version__ = "0.1.0"
