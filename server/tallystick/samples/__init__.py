"""Features that the shipped catalogs sell, so that a demo does real work."""
