"""Folders of videos → tables, plots and grids; the paper's tables as commands."""
