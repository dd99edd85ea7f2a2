"""The search: searchers that propose, a ledger of what became of it, and NNI's evaluator and strategy around
them.
"""
