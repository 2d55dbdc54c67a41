"""Runs the nodes of one segment in this process: coroutines on the loop, functions in threads, CPU work in processes."""
