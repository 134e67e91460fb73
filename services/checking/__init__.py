"""Judging responses in worker processes that can be killed."""
