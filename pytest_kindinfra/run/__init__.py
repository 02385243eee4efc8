"""One run: prepare it, bring the stack up, tear it down, report."""
