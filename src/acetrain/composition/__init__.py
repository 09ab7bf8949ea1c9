"""From option files and `key=value` arguments to one typed job, every mistake a refusal."""
