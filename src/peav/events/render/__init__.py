"""Detections as pictures and pages."""
