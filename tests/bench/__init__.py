"""Figures, printed by ``make bench``: never tests with a time limit."""
