"""chaos: faults on the wire and on processes, planned from a seed, always reverted."""
