"""Several processes of one server on one machine: a Gunicorn master that listens, and workers that answer.

`master.serve` runs them. The master answers nothing and opens nothing but the socket that it listens on.
"""
