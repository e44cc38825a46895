"""Figures of routers and their intervals: curves, calibration, gaps, robustness."""
