"""Looking after jobs, for the command line and the server alike."""
