"""One service: applied or installed, awaited, its endpoints proved, renewed on reuse."""
