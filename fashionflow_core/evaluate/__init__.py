"""Evaluation of folders of videos: tables, plots, grids, ablations."""
