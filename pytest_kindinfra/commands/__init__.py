"""The commands about a cluster that outlives runs, and about this machine; `cli.py` calls them."""
