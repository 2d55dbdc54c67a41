"""The flow server: the HTTP API over an app. `assemble.create_app` puts it together; `millstream serve` runs it."""
