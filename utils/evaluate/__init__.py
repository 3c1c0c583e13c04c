"""A network's numbers: confusion matrices, measures, results, and what is evaluated."""
