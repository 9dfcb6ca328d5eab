"""Benchmarks, the figures that they measure, and the tables that show them."""
