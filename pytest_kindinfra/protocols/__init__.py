"""What the parts that come in several kinds can do, and what they take and return."""
