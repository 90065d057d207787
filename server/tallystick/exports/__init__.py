"""Statements and the journal as files: CSV, or JSON Lines."""
