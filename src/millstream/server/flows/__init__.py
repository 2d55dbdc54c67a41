"""Flows as the API and the command line keep them: checked before they are saved, and as files. No HTTP in here."""
