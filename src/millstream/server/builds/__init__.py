"""Builds: jobs whose events are streamed to whoever looks at a flow while it runs."""
