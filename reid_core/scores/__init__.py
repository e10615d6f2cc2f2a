"""What is counted and how: protocols, metrics, thresholds, records, and what others report."""
