"""Data read, checked, divided and pushed; base models mirrored. Both end as digests."""
