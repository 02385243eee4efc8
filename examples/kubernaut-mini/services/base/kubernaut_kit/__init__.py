"""What the services share: a JSON server, a JSON client, counters, settings and a quick exit.

It is part of the base image, so it knows no service and needs nothing but PyYAML.
"""
