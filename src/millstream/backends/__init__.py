"""Where segments execute. Each backend passes the contract suite in `testing/`."""
