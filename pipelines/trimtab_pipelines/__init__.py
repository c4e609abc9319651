"""What runs inside Trimtab's pods: data made ready, models trained, versions evaluated.

Each stage reads one document and writes one (`trimtab_api.documents`). Nothing here knows of the
cluster: no API server, no service account.
"""
