"""Prometheus for RLAD: what it scrapes, what it computes beforehand, and what it wakes people for."""
