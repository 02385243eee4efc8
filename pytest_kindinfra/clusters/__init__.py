"""kind clusters and existing ones: create, reuse, observe, sweep."""
