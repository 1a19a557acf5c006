"""Scores and what may be concluded from them: per-image evidence, intervals, tests, budgets."""
