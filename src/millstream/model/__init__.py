"""Pure, frozen descriptions: tasks' policy, graphs, jobs, events, failures. No I/O, nothing but msgspec."""
