"""The command line: `millstream run`, `flows`, `config`, `doctor`. One module per command group."""
