"""How flows are written: tasks, flows that draw, flows that conduct."""
