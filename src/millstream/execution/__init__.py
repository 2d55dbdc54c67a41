"""The only way through: submit, claim, drive the planner, record, advance, settle, cancel."""
