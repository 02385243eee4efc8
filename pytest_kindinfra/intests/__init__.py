"""What a test does with the stack: commands in pods, logs, restarts, objects of its own."""
