"""The search: an evolution that asks and is told, and NNI's evaluator and strategy around it."""
