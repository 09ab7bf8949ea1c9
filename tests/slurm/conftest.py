"""Makes the cluster known to the tests beside."""

from slurm_site import calm, cluster, site

__all__ = ["calm", "cluster", "site"]
