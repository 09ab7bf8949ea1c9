"""Short songs composed and played by rule: known tempo, key, meter and style, the same for the same seed."""
