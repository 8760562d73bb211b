"""chatd: a WebSocket chat daemon with serials, resume, idempotent publish and durable acks."""
