"""The command line: `millstream run`, `jobs`, `flows`, `ledger`, `config`, `doctor`. One module or package a group."""
