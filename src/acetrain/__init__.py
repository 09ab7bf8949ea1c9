"""Trains adapters for ACE-Step 1.5 from folders of songs."""

__version__ = "0.1.0"
