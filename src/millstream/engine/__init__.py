"""Runs the nodes of one segment: coroutines on the loop, functions in threads, CPU-bound work in processes."""
