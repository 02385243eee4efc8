"""What processes and runs leave for each other: files, locks, results, the stack."""
