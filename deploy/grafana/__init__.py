"""Grafana's dashboards for RLAD and the small program that writes them: ``python -m deploy.grafana``."""
