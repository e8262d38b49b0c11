"""Trainers, one a network; ``freeze`` is the only bridge from float to integer."""
