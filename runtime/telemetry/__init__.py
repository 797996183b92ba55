"""What live streams do, in numbers: latencies, misses, rates, and what the machine tells.

`Telemetry.record` is the listener of a pipeline. Outputs are JSON lines, a Prometheus endpoint and
a view in the terminal; each takes the same snapshots.
"""
