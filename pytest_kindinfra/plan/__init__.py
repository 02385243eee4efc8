"""What is wanted: the declaration, options and sources become a plan, or every problem."""
