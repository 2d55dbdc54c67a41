"""The pure planner: what may run next, given what has happened. No I/O, no clock, no event loop."""
