"""The domain: jobs, rank, footprint, placement, leases and the store. No HTTP, no torch."""
