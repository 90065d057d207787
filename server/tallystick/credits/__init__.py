"""What credits mean: grants (credits given) and holds (credits set aside)."""
