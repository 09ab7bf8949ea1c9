"""Makes the cluster known to the tests beside."""

from slurm_site import cluster, site

__all__ = ["cluster", "site"]
