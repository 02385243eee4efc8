"""Straight lines of steps, each in a thread: the cluster's, each image's, each service's."""
