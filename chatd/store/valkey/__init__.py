"""A log that several nodes share, in a Valkey or Redis server (≥ 7); ``README.md`` says how it is kept."""
