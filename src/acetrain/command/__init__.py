"""What the command line does besides a job's own work: its arguments, help, and multiruns."""
