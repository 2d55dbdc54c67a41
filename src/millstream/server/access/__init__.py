"""Who may do what: the outer layer that denies by default, the list of what is public, and whoever is signed in."""
