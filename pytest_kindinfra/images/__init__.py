"""Images: named by their content, built, found, saved, loaded into kind nodes, cleaned up."""
