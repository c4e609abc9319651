"""Writes what follows from trimtab_api: CRDs, the chart's copies, and the reference pages."""
