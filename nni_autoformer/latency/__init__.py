"""Measures a network's latency, of its parts and of whole subnets."""
