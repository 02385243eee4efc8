"""pytest's side: which tests need what, the start and end of a run, fixtures, output."""
