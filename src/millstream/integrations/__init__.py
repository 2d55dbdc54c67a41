"""What fits millstream into other programs: each a package of its own, which needs the extra of its name."""
