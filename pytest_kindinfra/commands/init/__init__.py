"""`kindinfra init`: a declaration to begin with, made from what is in a folder."""
