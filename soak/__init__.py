"""Campaigns: the server under load and under attack for a long time, then judged."""
