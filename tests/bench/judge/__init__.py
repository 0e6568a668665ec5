"""Error rates of the judge on simulated recordings, beside judges of other shapes."""
