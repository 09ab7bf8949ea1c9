"""The embedded base: its architecture, its pretraining, and the weights that came out of it."""
