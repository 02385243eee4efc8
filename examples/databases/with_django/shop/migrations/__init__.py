"""The tables, and the rows that every test finds."""
