"""An embedded fault proxy with Toxiproxy 2.12's HTTP API: TCP in Python on uvloop."""
