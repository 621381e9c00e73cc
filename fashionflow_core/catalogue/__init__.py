"""Catalogues: many photos, worker processes, resume, gallery."""
